<?php
// Adds a host, puts a setup, plans a rollout, starts it, watches it to its end and reads its proof, through the client that
// php-soap makes from the WSDL of the Control Port. docs/clients.md says how it is run. Exit code 0: every host is done; 1: not
// so; 2: a call failed.
//   rollout.php <url of the port> <CA file> < order.json
// The order is {"host": input of addHost, "setup": name, "setupXml": text}. HADES_TOKEN is the token, SOAP_VERSION 1.1 or 1.2.

// More than one watch of a rollout lasts: then something is wrong that this program cannot mend.
const POLLS_MAX = 36000;

function roll(SoapClient $control, array $order): int
{
    ['host' => $host, 'setup' => $setup, 'setupXml' => $xml] = $order;
    $which = ['nodeset' => $host['name'], 'setup' => $setup];
    $control->addHost($host);
    $control->putSetup(['xml' => $xml]);
    $plan = $control->planRollout($which)->plan;
    echo 'can start: ', $plan->canStart ? 'yes' : 'no', "\n";

    // With the key, a start whose answer was lost may be sent again: it is the same rollout.
    $key = new SoapHeader('urn:hades:control:1', 'idempotencyKey', "rollout-of-{$host['name']}");
    for ($time = 1; $time <= 2; $time++) {
        $rollout = $control->__soapCall('startRollout', [$which], null, $key)->rollout;
        echo "rollout: {$rollout->id}\n";
    }
    for ($poll = 0; $poll < POLLS_MAX && !isset($rollout->endedAt); $poll++) {
        usleep($poll < 50 ? 100_000 : 1_000_000);
        $rollout = $control->getRollout(['rollout' => $rollout->id])->rollout;
    }
    $isDone = isset($rollout->endedAt);
    foreach ($rollout->deployments as $deployment) {
        echo "{$deployment->host}: {$deployment->state}\n";
        if ($deployment->state !== 'done') {
            $isDone = false;
            continue;
        }
        // As `hades proof verify` takes it from a file. The document is JSON already: decoded and encoded again, PHP would make
        // lists of what was empty objects.
        $proof = $control->getProof(['deployment' => $deployment->id]);
        $signed = ['signature' => $proof->signature, 'publicKey' => $proof->publicKey];
        echo '{"proof":', $proof->document, ',', substr(json_encode($signed), 1), "\n";
    }
    return $isDone ? 0 : 1;
}

// A failure of the service has a code, sentences and a remedy in the detail of the fault, which PHP gives without the types of
// the WSDL: one sentence is no list. Other faults are of php-soap or the network.
function sentences(SoapFault $fault): string
{
    $failure = $fault->detail->failure ?? null;
    if ($failure === null) {
        return $fault->getMessage();
    }
    return implode(': ', [$failure->code, ...(array) $failure->message]) . " ({$failure->remedy})";
}

[, $url, $caFile] = $argv;
$order = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
// How long PHP waits for an answer.
ini_set('default_socket_timeout', '30');
try {
    $control = new SoapClient("$url?wsdl", [
        'soap_version' => getenv('SOAP_VERSION') === '1.1' ? SOAP_1_1 : SOAP_1_2,
        // Lists of one are lists too.
        'features' => SOAP_SINGLE_ELEMENT_ARRAYS,
        'cache_wsdl' => WSDL_CACHE_NONE,
        // The service asks for no particular name: the token tells who it is.
        'login' => 'php',
        'password' => getenv('HADES_TOKEN'),
        'connection_timeout' => 30,
        'stream_context' => stream_context_create(['ssl' => ['cafile' => $caFile]]),
    ]);
    exit(roll($control, $order));
} catch (SoapFault $fault) {
    fwrite(STDERR, sentences($fault) . "\n");
    exit(2);
}
