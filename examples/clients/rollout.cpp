// Adds a host, puts a setup, plans a rollout, starts it, watches it to its end and reads its proof, through the client that gSOAP
// makes from the WSDL of the Control Port. docs/clients.md says how it is built. Exit code 0: every host is done; 1: not so; 2: a
// call failed.
//   rollout <url of the port> <CA file> <host> <mac> <ip> <setup name> <setup file> <driver> <address> <user> [<option>=<value>...]
// HADES_TOKEN is the token, BMC_PASSWORD the password of the controller, SOAP_VERSION 1.1 or 1.2.
#include "ControlPortSoap11.nsmap"
#include "soapControlPortSoap11Proxy.h"
#include <fstream>
#include <iostream>
#include <sstream>
#include <unistd.h>
#include <utility>

// More than one watch of a rollout lasts: then something is wrong that this program cannot mend.
const int pollsMax = 36000;

static const char *from(const char *variable, const char *otherwise) {
  const char *value = getenv(variable);
  return value ? value : otherwise;
}

// gSOAP forgets the user after each call. The service asks for no particular name: the token tells who it is.
static ControlPortSoap11Proxy &as_user(ControlPortSoap11Proxy &port) {
  port.soap->userid = "gsoap";
  port.soap->passwd = from("HADES_TOKEN", "");
  return port;
}

// A failure of the service has a code, sentences and a remedy in the detail of the fault; others are of gSOAP or the network.
static int failed(ControlPortSoap11Proxy &port) {
  soap *context = port.soap;
  const SOAP_ENV__Fault *fault = context->fault;
  const SOAP_ENV__Detail *detail = !fault ? nullptr : context->version == 2 ? fault->SOAP_ENV__Detail : fault->detail;
  if (detail && detail->ns1__failure) {
    const ns1__Failure &failure = *detail->ns1__failure;
    std::cerr << soap_ns1__FailureCode2s(context, failure.code);
    for (const std::string &sentence : failure.message) std::cerr << ": " << sentence;
    std::cerr << " (" << failure.remedy << ")\n";
  } else {
    port.soap_stream_fault(std::cerr);
  }
  return 2;
}

int main(int count, char **words) {
  if (count < 11) return 2;
  const std::string url = words[1], host = words[3], setup = words[6];
  soap *context = soap_new1(SOAP_C_UTFSTRING | SOAP_XML_STRICT | SOAP_IO_KEEPALIVE);
  context->connect_timeout = context->send_timeout = context->recv_timeout = 30;
  if (soap_ssl_client_context(context, SOAP_SSL_DEFAULT, nullptr, nullptr, words[2], nullptr, nullptr)) {
    soap_print_fault(context, stderr);
    return 2;
  }
  ControlPortSoap11Proxy port(context, url.c_str());
  // gSOAP writes in the version whose namespaces stand first in its table, and reads both: 1.2 unless told otherwise.
  if (from("SOAP_VERSION", "1.2") == std::string("1.1")) {
    std::swap(namespaces[0].ns, namespaces[0].in);
    std::swap(namespaces[1].ns, namespaces[1].in);
    soap_set_namespaces(context, namespaces);
  }

  ns1__NetworkInterface nic;
  std::string ip = words[5];
  nic.mac = words[4];
  nic.ip = &ip;
  ns1__PowerMethod power;
  std::string address = words[9], user = words[10], password = from("BMC_PASSWORD", "");
  power.driver = words[8];
  power.address = &address;
  power.username = &user;
  power.password = &password;
  std::vector<ns1__Option> options(static_cast<size_t>(count - 11));
  for (size_t i = 0; i < options.size(); i++) {
    const std::string word = words[11 + i];
    options[i].name = word.substr(0, word.find('='));
    options[i].value = word.substr(word.find('=') + 1);
    power.options.push_back(&options[i]);
  }
  _ns1__addHost add;
  _ns1__addHostResponse added;
  add.name = host;
  add.interfaces.push_back(&nic);
  add.powerMethods.push_back(&power);
  if (as_user(port).addHost(&add, added)) return failed(port);

  std::ostringstream text;
  text << std::ifstream(words[7]).rdbuf();
  _ns1__putSetup put;
  _ns1__putSetupResponse stored;
  put.xml = text.str();
  if (as_user(port).putSetup(&put, stored)) return failed(port);

  std::string reference = setup;
  _ns1__planRollout plan;
  _ns1__planRolloutResponse planned;
  plan.nodeset = host;
  plan.setup = &reference;
  if (as_user(port).planRollout(&plan, planned)) return failed(port);
  std::cout << "SOAP 1." << context->version << '\n';
  std::cout << "can start: " << (planned.plan->canStart ? "yes" : "no") << '\n';

  // With the key, a start whose answer was lost may be sent again: it is the same rollout.
  std::string key = "rollout-of-" + host;
  ns1__Rollout *rollout = nullptr;
  for (int time = 1; time <= 2; time++) {
    _ns1__startRollout start;
    _ns1__startRolloutResponse started;
    start.nodeset = host;
    start.setup = &reference;
    port.soap_header(&key);
    if (as_user(port).startRollout(&start, started)) return failed(port);
    rollout = started.rollout;
    std::cout << "rollout: " << rollout->id << '\n';
  }
  port.soap_noheader();

  _ns1__getRollout which;
  which.rollout = rollout->id;
  for (int poll = 0; poll < pollsMax && !rollout->endedAt; poll++) {
    usleep(poll < 50 ? 100000 : 1000000);
    // What was read before is given back: the context owns it.
    port.destroy();
    _ns1__getRolloutResponse now;
    if (as_user(port).getRollout(&which, now)) return failed(port);
    rollout = now.rollout;
  }
  bool isDone = rollout->endedAt != nullptr;
  for (const ns1__Deployment *deployment : rollout->deployments) {
    std::cout << deployment->host << ": " << soap_ns1__DeploymentState2s(context, deployment->state) << '\n';
    if (deployment->state != ns1__DeploymentState::done) {
      isDone = false;
      continue;
    }
    // As `hades proof verify` takes it from a file. The document is JSON already; key and signature are base64.
    _ns1__getProof whose;
    _ns1__getProofResponse proof;
    whose.deployment = deployment->id;
    if (as_user(port).getProof(&whose, proof)) return failed(port);
    std::cout << "{\"proof\":" << proof.document << ",\"signature\":\"" << proof.signature << "\",\"publicKey\":\""
              << proof.publicKey << "\"}\n";
  }
  port.destroy();
  soap_free(context);
  return isDone ? 0 : 1;
}
