// Wrong files and the exact diagnostics they get.
// Not other sources than files (sources_test.cc), nor certificates (credentials_test.cc).
#include "tests/support/catch.h"
#include "tests/unit/config/support.h"

namespace proxy::config {
namespace {

struct Case {
  const char* about;
  std::string yaml;
  std::string expected;
};

// Enough to be complete, on the first line, so that what a case adds starts at line 2.
const std::string kBase = "inbound: {listen: \":8000\", app: \":9898\"}\n";

void run(const std::vector<Case>& cases) {
  for (const auto& c : cases) {
    INFO(c.about << "\n" << c.yaml);
    CHECK(problems(c.yaml) == c.expected);
  }
}

TEST_CASE("unknown and repeated keys") {
  run({
      {"near a right key", "inbound:\n  lisen: \":1\"\n  app: \":2\"\n  listen: \":3\"\n",
       "hoplite.yaml:2:3: inbound.lisen: unknown key; did you mean \"listen\"? allowed: listen, "
       "app, service, other_tls, protocol, app_address, ports\n"},
      {"swapped letters", kBase + "stast: {}\n",
       "hoplite.yaml:2:1: stast: unknown key; did you mean \"stats\"? allowed: workload, inbound, "
       "outbound, interception, detection, dns, mtls, stats, agent, log, limits, timeouts, "
       "workers\n"},
      {"right key in the wrong place", kBase + "log: {cert: x}\n",
       "hoplite.yaml:2:7: log.cert: unknown key; did you mean \"mtls.cert\"? allowed: access, "
       "format, level\n"},
      {"near nothing", kBase + "log: {xyzzyplugh: x}\n",
       "hoplite.yaml:2:7: log.xyzzyplugh: unknown key; allowed: access, format, level\n"},
      {"a dotted path is no key", kBase + "log.level: info\n",
       "hoplite.yaml:2:1: log.level: unknown key; allowed: workload, "
       "inbound, outbound, interception, detection, dns, mtls, stats, agent, log, limits, "
       "timeouts, "
       "workers\n"},
      {"nor is a path of the table", "outbound: {\"services[].port\": 1, listen: \":1\"}\n",
       "hoplite.yaml:1:12: outbound.services[].port: unknown key; "
       "allowed: listen, unknown_host, services\n"},
      {"repeated scalar", kBase + "log:\n  level: info\n  level: debug\n",
       "hoplite.yaml:4:3: log.level: repeated; it stands at line 3 already\n"},
      {"repeated section", kBase + "log: {}\nlog: {}\n",
       "hoplite.yaml:3:1: log: repeated; it stands at line 2 already\n"},
      {"repeated label", kBase + "workload: {labels: {a: b, a: c}}\n",
       "hoplite.yaml:2:27: workload.labels.a: repeated; it stands at line 2 already\n"},
      {"a list as a key", kBase + "? [a, b]\n: c\n",
       "hoplite.yaml:2:3: found a list as a key; allowed: a name\n"},
      {"in a service",
       "outbound:\n  listen: \":1\"\n  services:\n  - hosts: [a]\n    endpoint: [\":2\"]\n",
       "hoplite.yaml:4:5: outbound.services[0].endpoints: missing; allowed: a list of 0 to 256 of "
       "HOST:PORT such as \"127.0.0.1:9898\", \"[::1]:9898\", \"backend.local:80\"\n"
       "hoplite.yaml:5:5: outbound.services[0].endpoint: unknown key; did you mean "
       "\"endpoints\"? allowed: name, namespace, hosts, port, endpoints, addresses, "
       "resolution, traffic, balance, protocol, upgrade, tls\n"},
  });
}

TEST_CASE("interception and what needs it") {
  const std::string base = "interception: redirect\ninbound: {listen: \"*:15006\"}\n";
  run({
      {"nothing more is needed", base, ""},
      {"an app that each connection names",
       "interception: redirect\ninbound: {listen: \":1\", app: \":2\"}\n",
       "hoplite.yaml:2:30: inbound.app: found with interception, where each connection goes on to "
       "the port it was meant for; allowed: with interception none\n"},
      {"passing on to nobody knows where",
       "outbound: {listen: \":1\", unknown_host: passthrough}\n",
       "hoplite.yaml:1:40: outbound.unknown_host: found \"passthrough\" without interception: "
       "nobody "
       "knows where it was going; allowed: refuse, or interception redirect or tproxy\n"},
      {"ports",
       "interception: tproxy\ninbound:\n  listen: \":1\"\n  ports:\n"
       "  - {port: 80}\n  - {port: 80, traffic: tcp}\n  - {traffic: http}\n",
       "hoplite.yaml:6:12: inbound.ports[1].port: found 80: it stands above already\n"
       "hoplite.yaml:7:5: inbound.ports[2].port: missing; allowed: a whole number from 1 to "
       "65535\n"},
  });
}

TEST_CASE("addresses of services") {
  const std::string head = "interception: redirect\noutbound:\n  listen: \":1\"\n  services:\n";
  run({
      {"addresses and networks",
       head + "  - {hosts: [a], endpoints: [\":2\"], addresses: [10.0.0.1, 10.1.0.0/16, "
              "\"fd00::/8\"]}\n",
       ""},
      {"no address", head + "  - {hosts: [a], endpoints: [\":2\"], addresses: [abc]}\n",
       "hoplite.yaml:5:49: outbound.services[0].addresses[0]: found \"abc\": it is no IP address; "
       "allowed: a list of 0 to 64 IP addresses, or CIDRs such as \"10.0.0.0/8\"\n"},
      {"host bits", head + "  - {hosts: [a], endpoints: [\":2\"], addresses: [10.0.0.1/8]}\n",
       "hoplite.yaml:5:49: outbound.services[0].addresses[0]: found \"10.0.0.1/8\": it has bits "
       "beyond its prefix; allowed: a list of 0 to 64 IP addresses, or CIDRs such as "
       "\"10.0.0.0/8\"\n"},
      {"the same twice",
       head + "  - {hosts: [a], endpoints: [\":2\"], addresses: [10.0.0.1]}\n"
              "  - {hosts: [b], endpoints: [\":2\"], addresses: [10.0.0.1]}\n",
       "hoplite.yaml:6:49: outbound.services[1].addresses[0]: found \"10.0.0.1\": "
       "outbound.services[0] has this address with port 80 already\n"},
      {"original and endpoints",
       head +
           "  - {hosts: [a], endpoints: [\":2\"], addresses: [10.0.0.1], resolution: original}\n",
       "hoplite.yaml:5:29: outbound.services[0].endpoints: found with resolution original; "
       "allowed: with resolution endpoints\n"},
      {"tcp by name alone", head + "  - {hosts: [a], endpoints: [\":2\"], traffic: tcp}\n",
       "hoplite.yaml:5:46: outbound.services[0].traffic: found \"tcp\" without addresses, by which "
       "its connections would be known; allowed: with addresses\n"},
  });
}

TEST_CASE("wrong types") {
  run({
      {"list for a section", "inbound: [a]\n",
       "hoplite.yaml:1:10: inbound: found a list; allowed: a map with the keys listen, app, "
       "service, other_tls, protocol, app_address, ports\n"},
      {"text for the whole", "hello\n",
       "hoplite.yaml:1:1: found \"hello\"; allowed: a map with the keys workload, inbound, "
       "outbound, interception, detection, dns, mtls, stats, agent, log, limits, timeouts, "
       "workers\n"},
      {"map for a scalar", kBase + "workers: {a: b}\n",
       "hoplite.yaml:2:10: workers: found a map; allowed: a whole number from 1 to 64\n"},
      {"nothing for a scalar", kBase + "workers:\n",
       "hoplite.yaml:2:1: workers: found nothing; allowed: a whole number from 1 to 64\n"},
      {"quoted number", kBase + "workers: \"2\"\n",
       "hoplite.yaml:2:10: workers: found \"2\" in quotes; allowed: a whole number from 1 to 64\n"},
      {"yes is no boolean", kBase + "mtls: {audit: yes}\n",
       "hoplite.yaml:2:15: mtls.audit: found \"yes\"; allowed: true, false\n"},
      {"text for a list", kBase + "mtls: {allow: abc}\n",
       "hoplite.yaml:2:15: mtls.allow: found \"abc\"; allowed: a list of at most 1000 principals, "
       "or maps with the keys name, principal\n"},
      {"list for a map", kBase + "workload: {labels: [a]}\n",
       "hoplite.yaml:2:20: workload.labels: found a list; allowed: a map of at most 64 names to "
       "texts\n"},
      {"number for a listener", "inbound: {listen: 8000, app: \":9898\"}\n",
       "hoplite.yaml:1:19: inbound.listen: found \"8000\": the port is missing; allowed: "
       "ADDRESS:PORT such as \":8000\" (127.0.0.1 and ::1), \"*:8000\" (all addresses), "
       "\"10.0.0.1:8000\", \"[::1]:8000\"\n"},
      {"an empty service", kBase + "outbound: {listen: \":1\", services: [~]}\n",
       "hoplite.yaml:2:37: outbound.services[0]: found nothing; allowed: a map\n"},
  });
}

TEST_CASE("values out of range, without units, misspelt") {
  run({
      {"no unit", kBase + "timeouts: {header: 10}\n",
       "hoplite.yaml:2:20: timeouts.header: found \"10\": the unit is missing; allowed: a duration "
       "with a unit (ms, s, m, h) from 1ms to 24h\n"},
      {"zero where it may not be off", kBase + "timeouts: {header: 0}\n",
       "hoplite.yaml:2:20: timeouts.header: found \"0\"; allowed: a duration with a unit (ms, s, "
       "m, h) from 1ms to 24h\n"},
      {"too long", kBase + "timeouts: {request: 25h}\n",
       "hoplite.yaml:2:21: timeouts.request: found \"25h\"; allowed: a duration with a unit (ms, "
       "s, m, h) from 1ms to 24h, or 0 for off\n"},
      {"size without unit", kBase + "limits: {head_bytes: 65536}\n",
       "hoplite.yaml:2:22: limits.head_bytes: found \"65536\": the unit is missing; allowed: a "
       "size with a unit (B, KiB, MiB, KB, MB) from 1KiB to 1MiB\n"},
      {"negative", kBase + "limits: {connections: -1}\n",
       "hoplite.yaml:2:23: limits.connections: found \"-1\"; allowed: a whole number from 1 to "
       "1000000\n"},
      {"misspelt choice", kBase + "mtls: {mode: strickt}\n",
       "hoplite.yaml:2:14: mtls.mode: found \"strickt\": did you mean \"strict\"? allowed: off, "
       "permissive, strict\n"},
      {"control character in text", kBase + "workload: {name: \"a\\nb\"}\n",
       "hoplite.yaml:2:18: workload.name: found \"a\\x0ab\": it holds control characters or "
       "invalid UTF-8; allowed: text of 0 to 256 bytes\n"},
      {"empty list of hosts",
       kBase + "outbound: {listen: \":1\", services: [{hosts: [], endpoints: [\":2\"]}]}\n",
       "hoplite.yaml:2:45: outbound.services[0].hosts: found 0 items; allowed: a list of 1 to 64 "
       "host names, or *.suffix\n"},
      {"host with a port",
       kBase + "outbound: {listen: \":1\", services: [{hosts: [\"a:80\"], endpoints: [\":2\"]}]}\n",
       "hoplite.yaml:2:46: outbound.services[0].hosts[0]: found \"a:80\": a host stands without a "
       "port (the port is the service's `port`); allowed: a list of 1 to 64 host names, or "
       "*.suffix\n"},
      {"all in one go", "inbound: {listen: x, app: \":9898\", other_tls: no}\nworkers: 0\n",
       "hoplite.yaml:1:19: inbound.listen: found \"x\": the port is missing; allowed: ADDRESS:PORT "
       "such as \":8000\" (127.0.0.1 and ::1), \"*:8000\" (all addresses), \"10.0.0.1:8000\", "
       "\"[::1]:8000\"\n"
       "hoplite.yaml:1:47: inbound.other_tls: found \"no\"; allowed: terminate, pass\n"
       "hoplite.yaml:2:10: workers: found \"0\"; allowed: a whole number from 1 to 64\n"},
  });
}

TEST_CASE("not YAML, or more than one") {
  run({
      {"a star without quotes", "inbound:\n  listen: *:8000\n  app: \":9898\"\n",
       "hoplite.yaml:2:11: not YAML: the referenced anchor is not defined; a value that begins "
       "with * [ % @ or "
       "` stands in quotes, as in \"*:8000\"\n"},
      {"two documents", kBase + "---\nlog: {}\n",
       "hoplite.yaml:3:1: a second document; allowed: one a file\n"},
      {"a comma where a key belongs", ", r",
       "hoplite.yaml:1:1: not YAML: no value can begin here\n"},
      {"lists without end", std::string(2000, '[') + std::string(2000, ']'),
       "hoplite.yaml:1:1: nested too deeply\n"},
      {"a NUL", kBase + std::string("a\0b", 3),
       "hoplite.yaml:2:2: not text: a control character or invalid UTF-8\n"},
      {"Latin-1", kBase + "workload: {name: M\xfcller}\n",
       "hoplite.yaml:2:19: not text: a control character or invalid UTF-8\n"},
      {"an unknown tag is no matter", kBase + "workload: {name: !x y}\n", ""},
      {"comments alone are an empty file", "# nothing\n",
       "hoplite.yaml: inbound.listen: no listener; set inbound.listen and inbound.app (--from, "
       "--to), or outbound.listen\n"},
      {"sections may be empty", kBase + "log:\n", ""},
      {"a byte order mark", "\xef\xbb\xbf" + kBase, ""},
      {"anchors and aliases", kBase + "workload: {name: &n web, app: *n }\n", ""},
  });
}

TEST_CASE("listeners that cannot be") {
  run({
      {"no app", "inbound: {listen: \":8000\"}\n",
       "hoplite.yaml:1:19: inbound.app: missing: inbound.listen needs it; set it to where the app "
       "listens (--to)\n"},
      {"no listen", "inbound: {app: \":8000\"}\n",
       "hoplite.yaml:1:16: inbound.listen: missing: inbound.app needs it; set it to where the "
       "traffic arrives (--from)\n"},
      {"same as stats", kBase + "stats: {listen: \"*:8000\"}\n",
       "hoplite.yaml:2:17: stats.listen: found \"*:8000\": inbound.listen (:8000) has this port "
       "already; allowed: another port\n"},
      {"the default of stats", "inbound: {listen: \":15090\", app: \":9898\"}\n",
       "hoplite.yaml:1:19: inbound.listen: found \":15090\": stats.listen (127.0.0.1:15090) has "
       "this port already; allowed: another port\n"},
      {"same port, other address", kBase + "stats: {listen: \"127.0.0.2:8000\"}\n", ""},
      {"port 0 is never the same",
       "inbound: {listen: \":0\", app: \":9\"}\nstats: {listen: \":0\"}\n", ""},
      {"a circle", "inbound: {listen: \"*:8000\", app: \"127.0.0.1:8000\"}\n",
       "hoplite.yaml:1:34: inbound.app: found \"127.0.0.1:8000\": this is inbound.listen, requests "
       "would go in a circle\n"},
      {"pass in strict",
       "inbound: {listen: \":1\", app: \":2\", other_tls: pass}\n"
       "mtls: {mode: strict, cert: a, key: b, ca: c}\n",
       "hoplite.yaml:1:47: inbound.other_tls: found \"pass\" with mtls.mode strict: clients nobody "
       "verified would reach the app; allowed: terminate, or mtls.mode permissive\n"},
      {"pass beside rules",
       "inbound: {listen: \":1\", app: \":2\", other_tls: pass}\n"
       "mtls: {mode: permissive, cert: a, key: b, ca: c, allow: [\"*\"]}\n",
       "hoplite.yaml:1:47: inbound.other_tls: found \"pass\" with mtls.allow: what passes has no "
       "principal that a rule could judge; allowed: terminate, or no mtls.allow\n"},
  });
}

TEST_CASE("services that cannot be") {
  const std::string head = "outbound:\n  listen: \":9000\"\n  services:\n";
  run({
      {"no outbound listener",
       kBase + "outbound: {services: [{hosts: [a], endpoints: [\":1\"]}]}\n",
       "hoplite.yaml:2:22: outbound.listen: missing: outbound.services needs it; set it to where "
       "the app sends its requests\n"},
      {"no services", "outbound: {listen: \":9000\"}\n",
       "hoplite.yaml:1:20: warning: outbound.services: empty: every outbound request is refused "
       "with 502\n"},
      {"same host twice",
       head + "  - {hosts: [a, A], endpoints: [\":1\"]}\n  - {hosts: [a], port: 81, endpoints: "
              "[\":1\"]}\n  - {hosts: [b, a], endpoints: [\":1\"]}\n",
       "hoplite.yaml:4:17: outbound.services[0].hosts[1]: found \"a\": outbound.services[0] has "
       "this host with port 80 already\n"
       "hoplite.yaml:6:17: outbound.services[2].hosts[1]: found \"a\": outbound.services[0] has "
       "this host with port 80 already\n"},
      {"a circle", head + "  - {hosts: [a], endpoints: [\"localhost:9000\"]}\n",
       "hoplite.yaml:4:30: outbound.services[0].endpoints[0]: found \"localhost:9000\": this is "
       "outbound.listen, requests would go in a circle\n"},
      {"mutual without credentials",
       head + "  - {hosts: [a], endpoints: [\":1\"], tls: {mode: mutual}}\n",
       "hoplite.yaml:4:49: outbound.services[0].tls.mode: found \"mutual\" without credentials; "
       "set mtls.cert, mtls.key and mtls.ca\n"},
      {"SAN that is no SPIFFE id",
       "mtls: {cert: a, key: b, ca: c}\n" + head +
           "  - {hosts: [a], endpoints: [\":1\"], tls: {sans: [a.b, \"spiffe://x/*\"]}}\n",
       "hoplite.yaml:5:50: outbound.services[0].tls.sans[0]: found \"a.b\"; allowed: "
       "spiffe://TRUST_DOMAIN/PATH such as spiffe://cluster.local/ns/shop/sa/web, in full\n"
       "hoplite.yaml:5:55: outbound.services[0].tls.sans[1]: found \"spiffe://x/*\"; allowed: "
       "spiffe://TRUST_DOMAIN/PATH such as spiffe://cluster.local/ns/shop/sa/web, in full\n"},
      {"SAN in plaintext",
       head + "  - {hosts: [a], endpoints: [\":1\"], tls: {mode: off, sans: [\"spiffe://x/y\"]}}\n",
       "hoplite.yaml:4:60: outbound.services[0].tls.sans: found with tls.mode off, where nobody "
       "shows an identity; allowed: with tls.mode mutual\n"},
      {"upgrade in plaintext", head + "  - {hosts: [a], endpoints: [\":1\"], upgrade: true}\n",
       "hoplite.yaml:4:46: outbound.services[0].upgrade: found with tls.mode off; allowed: with "
       "tls.mode mutual\n"},
      {"upgrade of what stays HTTP/1",
       "mtls: {cert: a, key: b, ca: c}\n" + head +
           "  - {hosts: [a], endpoints: [\":1\"], protocol: http1, upgrade: true}\n",
       "hoplite.yaml:5:63: outbound.services[0].upgrade: found with protocol http1; allowed: with "
       "protocol auto or http2\n"},
  });
}

TEST_CASE("identities and timeouts that cannot be") {
  run({
      {"strict without files", kBase + "mtls: {mode: strict}\n",
       "hoplite.yaml:2:14: mtls.cert: missing: mtls.mode strict needs it; allowed: the path of a "
       "PEM file\n"
       "hoplite.yaml:2:14: mtls.key: missing: mtls.mode strict needs it; allowed: the path of a "
       "PEM file\n"
       "hoplite.yaml:2:14: mtls.ca: missing: mtls.mode strict needs it; allowed: the path of a PEM "
       "file\n"},
      {"cert without key", kBase + "mtls: {cert: a, ca: b}\n",
       "hoplite.yaml:2:14: mtls.key: missing: mtls.cert needs it; allowed: the path of a PEM "
       "file\n"},
      {"allow with mode off", kBase + "mtls: {allow: [\"*\"]}\n",
       "hoplite.yaml:2:15: mtls.allow: found with mtls.mode off, where nobody shows an identity; "
       "allowed: with mtls.mode permissive or strict\n"},
      {"Istio's short principal",
       kBase +
           "mtls:\n  {mode: strict, cert: a, key: b, ca: c, allow: [cluster.local/ns/a/sa/b]}\n",
       "hoplite.yaml:3:50: mtls.allow[0].principal: found \"cluster.local/ns/a/sa/b\"; did you "
       "mean \"spiffe://cluster.local/ns/a/sa/b\"? allowed: spiffe://..., or text that begins with "
       "*\n"},
      {"a rule without principal",
       kBase + "mtls:\n  {mode: strict, cert: a, key: b, ca: c, allow: [{name: x}]}\n",
       "hoplite.yaml:3:50: mtls.allow[0].principal: missing; allowed: a SPIFFE id, * stands for "
       "any text\n"},
      {"two rules of a name",
       kBase + "mtls:\n  {mode: strict, cert: a, key: b, ca: c, allow: [\"*a\", \"*a\"]}\n",
       "hoplite.yaml:3:56: mtls.allow[1].name: found \"*a\": another rule has this name already\n"},
      {"trust domain", kBase + "mtls: {trust_domain: \"spiffe://a\"}\n",
       "hoplite.yaml:2:22: mtls.trust_domain: found \"spiffe://a\"; allowed: lower-case letters, "
       "digits, '.', '-', '_'\n"},
      {"idle longer than the age", kBase + "timeouts: {upstream_max_age: 2s}\n",
       "hoplite.yaml:2:30: timeouts.upstream_max_age: timeouts.upstream_idle (55000ms) is longer "
       "than timeouts.upstream_max_age (2000ms) and could never run out\n"},
  });
}

}  // namespace
}  // namespace proxy::config
