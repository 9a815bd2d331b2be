<?php
// Calls operations through php-soap. Arguments: base URL, token, SOAP version (1.1 or 1.2).
// Reads a JSON list of {"port", "operation", "input"} from standard input and prints a JSON list of what came back:
// {"output": ...} or {"fault": {"code", "message", "detail"}}.
// php-soap writes numbers with the precision of `echo`, which loses digits unless told otherwise.
ini_set('precision', '17');
ini_set('serialize_precision', '17');
[, $base, $token, $version] = $argv;
$clients = [];
$results = [];
foreach (json_decode(stream_get_contents(STDIN), true) as $case) {
    $port = $case['port'];
    $clients[$port] ??= new SoapClient("$base/$port?wsdl", [
        'soap_version' => $version === '1.1' ? SOAP_1_1 : SOAP_1_2,
        'cache_wsdl' => WSDL_CACHE_NONE,
        'features' => SOAP_SINGLE_ELEMENT_ARRAYS,
        'login' => 'php',
        'password' => $token,
    ]);
    try {
        $results[] = ['output' => $clients[$port]->__soapCall($case['operation'], [(object) $case['input']])];
    } catch (SoapFault $fault) {
        $results[] = ['fault' => [
            'code' => $fault->faultcode,
            'message' => $fault->faultstring,
            'detail' => $fault->detail->failure ?? null,
        ]];
    }
}
echo json_encode($results, JSON_PRESERVE_ZERO_FRACTION | JSON_THROW_ON_ERROR);
