// The table of all keys, and lookups in it.
// Not the conversion of their values (assign.cc).
#include "proxy/config/keys.h"

#include <algorithm>
#include <array>
#include <thread>
#include <type_traits>

#include "proxy/config/values.h"

namespace proxy::config {
namespace {

template <class T>
Slot slot_for(T& field) {
  if constexpr (std::is_enum_v<T>) {
    static_assert(std::is_same_v<std::underlying_type_t<T>, unsigned char>);
    return ChoiceSlot{reinterpret_cast<unsigned char*>(&field)};
  } else {
    return &field;
  }
}

template <auto Section, auto Member>
Slot in(Config& config) {
  return slot_for((config.*Section).*Member);
}

template <auto Member>
Slot of_service(Service& service) {
  return slot_for(service.*Member);
}

template <auto Member>
Slot of_service_tls(Service& service) {
  return slot_for(service.tls.*Member);
}

template <auto Member>
Slot of_rule(AllowRule& rule) {
  return slot_for(rule.*Member);
}

template <auto Member>
Slot of_port(InboundPort& port) {
  return slot_for(port.*Member);
}

template <auto Member>
Slot at_top(Config& config) {
  return slot_for(config.*Member);
}

constexpr auto kWorkload = &Config::workload;
constexpr auto kInbound = &Config::inbound;
constexpr auto kOutbound = &Config::outbound;
constexpr auto kDetection = &Config::detection;
constexpr auto kDns = &Config::dns;
constexpr auto kMtls = &Config::mtls;
constexpr auto kStats = &Config::stats;
constexpr auto kAgent = &Config::agent;
constexpr auto kLog = &Config::log;
constexpr auto kLimits = &Config::limits;
constexpr auto kTimeouts = &Config::timeouts;

constexpr std::uint64_t kPathBytes = 4096;
constexpr std::uint64_t kDay = 24ULL * 3600 * 1000;
constexpr std::uint64_t kMillion = 1'000'000;

// clang-format off
const std::array kKeys{
    Key{"workload.name", Kind::text, in<kWorkload, &Workload::name>,
        "Name of the workload beside this proxy: `source_workload`, `destination_workload`."},
    Key{"workload.namespace", Kind::text, in<kWorkload, &Workload::namespace_name>,
        "Its namespace."},
    Key{"workload.app", Kind::text, in<kWorkload, &Workload::app>,
        "Its `app` label."},
    Key{"workload.version", Kind::text, in<kWorkload, &Workload::version>,
        "Its `version` label."},
    Key{"workload.canonical_service", Kind::text, in<kWorkload, &Workload::canonical_service>,
        "Its canonical service.", {.default_note = "`workload.app`, else `workload.name`"}},
    Key{"workload.canonical_revision", Kind::text, in<kWorkload, &Workload::canonical_revision>,
        "Its canonical revision.", {.default_note = "`workload.version`, else `latest`"}},
    Key{"workload.cluster", Kind::text, in<kWorkload, &Workload::cluster>,
        "Name of the cluster it runs in."},
    Key{"workload.service_account", Kind::text, in<kWorkload, &Workload::service_account>,
        "Its service account, as told to peers."},
    Key{"workload.labels", Kind::text_map, in<kWorkload, &Workload::labels>,
        "Further labels told to peers, as a map from name to text.", {.max = 64}},

    Key{"inbound.listen", Kind::listen, in<kInbound, &Inbound::listen>,
        "Where traffic for the workload arrives.", {.reloadable = false}},
    Key{"inbound.app", Kind::endpoint, in<kInbound, &Inbound::app>,
        "Where the workload itself listens."},
    Key{"inbound.service", Kind::text, in<kInbound, &Inbound::service>,
        "Full name of the service that the workload serves, as its clients name it: "
        "`destination_service`; without it the canonical service stands there."},
    Key{"inbound.other_tls", Kind::choice, in<kInbound, &Inbound::other_tls>,
        "What a TLS client without Istio's ALPN gets: TLS ended here, or its bytes passed to the "
        "app as TCP.", {.choices = "terminate|pass"}},
    Key{"inbound.protocol", Kind::choice, in<kInbound, &Inbound::protocol>,
        "HTTP version spoken to the app; `auto`: the one a request came in.",
        {.choices = "auto|http1|http2"}},

    Key{"inbound.app_address", Kind::choice, in<kInbound, &Inbound::app_address>,
        "Interception: the app is reached at the address a connection was going to, or at "
        "127.0.0.1 and ::1.", {.choices = "original|loopback"}},
    Key{"inbound.ports", Kind::ports, in<kInbound, &Inbound::ports>,
        "Interception: the app's ports and what they carry; others are then counted as "
        "`InboundPassthroughCluster`.", {.max = 256}},
    Key{"inbound.ports[].port", Kind::count, of_port<&InboundPort::port>,
        "The port.", {.min = 1, .max = 65535, .default_note = "required"}},
    Key{"inbound.ports[].traffic", Kind::choice, of_port<&InboundPort::traffic>,
        "What its clients say: `any` is found out; `http` and `tcp` wait for nothing.",
        {.choices = "any|http|tcp"}},
    Key{"inbound.ports[].service", Kind::text, of_port<&InboundPort::service>,
        "As `inbound.service`, for this port.", {.default_note = "`inbound.service`"}},

    Key{"outbound.listen", Kind::listen, in<kOutbound, &Outbound::listen>,
        "Where the workload sends its requests to other services.", {.reloadable = false}},
    Key{"outbound.unknown_host", Kind::choice, in<kOutbound, &Outbound::unknown_host>,
        "What is bound for no service gets: requests 502 and connections closed, counted as "
        "`BlackHoleCluster`; or, under interception, its way to where it was going, counted as "
        "`PassthroughCluster`.", {.choices = "refuse|passthrough"}},
    Key{"outbound.services", Kind::services, in<kOutbound, &Outbound::services>,
        "The services that may be called.", {.max = 1000}},
    Key{"outbound.services[].name", Kind::text, of_service<&Service::name>,
        "`destination_service_name`.", {.default_note = "the first host up to its first dot"}},
    Key{"outbound.services[].namespace", Kind::text, of_service<&Service::namespace_name>,
        "`destination_service_namespace`."},
    Key{"outbound.services[].hosts", Kind::hosts, of_service<&Service::hosts>,
        "Host values of this service, without port; `*.example.com` is all names below.",
        {.min = 1, .max = 64}},
    Key{"outbound.services[].port", Kind::count, of_service<&Service::port>,
        "Its port: Host may name this port or none.", {.min = 1, .max = 65535}},
    Key{"outbound.services[].endpoints", Kind::endpoints, of_service<&Service::endpoints>,
        "Where it runs; an empty list: nowhere at present (503 UH).",
        {.min = 0, .max = 256, .default_note = "required, but with `resolution: original`"}},
    Key{"outbound.services[].addresses", Kind::networks, of_service<&Service::addresses>,
        "Interception: its addresses and CIDRs, by which, with `port`, connections are matched.",
        {.max = 64}},
    Key{"outbound.services[].resolution", Kind::choice, of_service<&Service::resolution>,
        "Whether connections go to its endpoints, or each to where it was going.",
        {.choices = "endpoints|original"}},
    Key{"outbound.services[].traffic", Kind::choice, of_service<&Service::traffic>,
        "What its clients say: `any` is found out; `http` and `tcp` wait for nothing.",
        {.choices = "any|http|tcp"}},
    Key{"outbound.services[].balance", Kind::choice, of_service<&Service::balance>,
        "How an endpoint is chosen (`least_request`: the better of two taken at random).",
        {.choices = "round_robin|least_request"}},
    Key{"outbound.services[].protocol", Kind::choice, of_service<&Service::protocol>,
        "HTTP version spoken to it; `auto`: the one a request came in.",
        {.choices = "auto|http1|http2"}},
    Key{"outbound.services[].upgrade", Kind::boolean, of_service<&Service::upgrade>,
        "HTTP/1 requests share HTTP/2 connections with mTLS; header names arrive in lower case."},
    Key{"outbound.services[].tls.mode", Kind::choice, of_service_tls<&ServiceTls::mode>,
        "Plaintext, or mTLS with the identity in `mtls`.", {.choices = "off|mutual",
        .default_note = "`mutual` when `mtls.cert` is set, else `off`"}},
    Key{"outbound.services[].tls.sans", Kind::texts, of_service_tls<&ServiceTls::sans>,
        "SPIFFE ids of which the server must show one; none: any of `mtls.trust_domain`.",
        {.max = 64}},
    Key{"outbound.services[].tls.sni", Kind::text, of_service_tls<&ServiceTls::sni>,
        "Server name sent.", {.default_note = "`outbound_.PORT_._.HOST`"}},

    Key{"interception", Kind::choice, at_top<&Config::interception>,
        "How the listeners learn where connections were going: not at all, from `REDIRECT` rules, "
        "or inbound from `TPROXY` rules (`hoplite redirect` makes them).",
        {.choices = "none|redirect|tproxy", .reloadable = false}},
    Key{"detection.eager_after", Kind::duration, in<kDetection, &Detection::eager_after>,
        "Interception: a client that has been silent for so long gets its destination connected as "
        "TCP, in case the server speaks first.", {.min = 1, .max = 60'000}},

    Key{"dns.servers", Kind::name_servers, in<kDns, &Dns::servers>,
        "Name servers that endpoints' names are asked of.",
        {.max = 8, .default_note = "those of `/etc/resolv.conf`"}},

    Key{"mtls.mode", Kind::choice, in<kMtls, &Mtls::mode>,
        "Inbound: plaintext only, mTLS and plaintext on one port, or mTLS only.",
        {.choices = "off|permissive|strict"}},
    Key{"mtls.cert", Kind::path, in<kMtls, &Mtls::cert>,
        "PEM file: this workload's certificate, then its chain.", {.max = kPathBytes}},
    Key{"mtls.key", Kind::path, in<kMtls, &Mtls::key>,
        "PEM file: the certificate's private key.", {.max = kPathBytes}},
    Key{"mtls.ca", Kind::path, in<kMtls, &Mtls::ca>,
        "PEM file: the certificates that peers are verified against.", {.max = kPathBytes}},
    Key{"mtls.trust_domain", Kind::text, in<kMtls, &Mtls::trust_domain>,
        "Trust domain that peers must belong to.", {.min = 1, .max = 255}},
    Key{"mtls.allow", Kind::rules, in<kMtls, &Mtls::allow>,
        "Principals that may call in, as text or as name and principal; none: every verified peer.",
        {.max = 1000}},
    Key{"mtls.allow[].name", Kind::text, of_rule<&AllowRule::name>,
        "Name of the rule in metrics.", {.default_note = "the principal"}},
    Key{"mtls.allow[].principal", Kind::text, of_rule<&AllowRule::principal>,
        "SPIFFE id; `*` stands for any text.", {.min = 1, .max = 2048}},
    Key{"mtls.audit", Kind::boolean, in<kMtls, &Mtls::audit>,
        "Count what `mtls.allow` would deny, and deny nothing."},

    Key{"stats.listen", Kind::listen, in<kStats, &Stats::listen>,
        "Where metrics and health are served.", {.reloadable = false}},
    Key{"stats.ready_listen", Kind::listen, in<kStats, &Stats::ready_listen>,
        "A further listener for `/healthz/ready`, such as `*:15021`.", {.reloadable = false}},
    Key{"stats.source_security_policy", Kind::choice, in<kStats, &Stats::source_security_policy>,
        "`connection_security_policy` of reporter source: as Istio, or what was verified.",
        {.choices = "unknown|verified"}},
    Key{"stats.label_sets", Kind::count, in<kStats, &Stats::label_sets>,
        "Label sets kept before the overflow set takes the rest (one set is 67 lines of text).",
        {.min = 10, .max = 100'000, .reloadable = false}},
    Key{"stats.idle_expiry", Kind::duration, in<kStats, &Stats::idle_expiry>,
        "A label set without traffic for so long leaves the metrics.",
        {.min = 1000, .max = 365 * kDay, .zero_is_off = true}},

    Key{"agent.listen", Kind::listen, in<kAgent, &Agent::listen>,
        "Where Istio's agent would be: metrics of proxy and app in one, the app's probes, `/drain` "
        "and `/quitquitquit`; such as `*:15020`.", {.reloadable = false}},
    Key{"agent.admin_listen", Kind::listen, in<kAgent, &Agent::admin_listen>,
        "A further listener for metrics and health, such as `127.0.0.1:15000`.",
        {.reloadable = false}},
    Key{"agent.metrics_port", Kind::count, in<kAgent, &Agent::metrics_port>,
        "Port of the app's own metrics on loopback.",
        {.min = 1, .max = 65535, .zero_is_off = true}},
    Key{"agent.metrics_path", Kind::text, in<kAgent, &Agent::metrics_path>,
        "Path of the app's own metrics.", {.min = 1, .max = 2048}},
    Key{"agent.app_address", Kind::text, in<kAgent, &Agent::app_address>,
        "IP address at which the app's metrics and probes are asked for.", {.min = 1}},
    Key{"agent.probers", Kind::text, in<kAgent, &Agent::probers>,
        "The app's probes by their path on `agent.listen`: JSON as Istio's "
        "`ISTIO_KUBE_APP_PROBERS`.", {.max = 65536}},

    Key{"log.access", Kind::choice, in<kLog, &Log::access>,
        "Which requests get a line in the access log.", {.choices = "off|errors|all"}},
    Key{"log.format", Kind::choice, in<kLog, &Log::format>,
        "Form of the access log.", {.choices = "json|text"}},
    Key{"log.level", Kind::choice, in<kLog, &Log::level>,
        "Least level of the program log.", {.choices = "debug|info|warning|error"}},

    Key{"limits.head_bytes", Kind::size, in<kLimits, &Limits::head_bytes>,
        "Start line and headers of a message together.", {.min = 1024, .max = 1 << 20}},
    Key{"limits.header_count", Kind::count, in<kLimits, &Limits::header_count>,
        "Header lines of a message.", {.min = 10, .max = 1000}},
    Key{"limits.connections", Kind::count, in<kLimits, &Limits::connections>,
        "Downstream connections of a worker.", {.min = 1, .max = kMillion}},
    Key{"limits.requests_per_connection", Kind::count, in<kLimits, &Limits::requests_per_connection>,
        "Requests after which a downstream connection is closed.",
        {.min = 1, .max = 1000 * kMillion, .zero_is_off = true}},
    Key{"limits.http2_streams", Kind::count, in<kLimits, &Limits::http2_streams>,
        "Requests at a time on an HTTP/2 connection, on either side.", {.min = 1, .max = 100'000}},
    Key{"limits.http2_resets", Kind::count, in<kLimits, &Limits::http2_resets>,
        "Requests that an HTTP/2 client may cancel at once, and in every 10 s after that, before its "
        "connection is closed.", {.min = 1, .max = kMillion}},
    Key{"limits.upstream_connections", Kind::count, in<kLimits, &Limits::upstream_connections>,
        "Connections to a service, for each worker.", {.min = 1, .max = kMillion}},
    Key{"limits.upstream_pending", Kind::count, in<kLimits, &Limits::upstream_pending>,
        "Requests waiting for a connection to a service, for each worker.",
        {.min = 0, .max = kMillion}},
    Key{"limits.upstream_idle_connections", Kind::count,
        in<kLimits, &Limits::upstream_idle_connections>,
        "Unused connections kept to an endpoint, for each worker.", {.min = 0, .max = kMillion}},
    Key{"limits.retry_budget", Kind::count, in<kLimits, &Limits::retry_budget>,
        "Retries under way, in percent of the requests in flight to the service (3 are always "
        "allowed; 0: no retries).", {.min = 0, .max = 100}},

    Key{"timeouts.header", Kind::duration, in<kTimeouts, &Timeouts::header>,
        "From the first byte of a request head to its last.", {.min = 1, .max = kDay}},
    Key{"timeouts.body_idle", Kind::duration, in<kTimeouts, &Timeouts::body_idle>,
        "Nothing of a request or of its response moves.", {.min = 1, .max = kDay, .zero_is_off = true}},
    Key{"timeouts.tunnel_idle", Kind::duration, in<kTimeouts, &Timeouts::tunnel_idle>,
        "Nothing moves in an upgraded connection, a gRPC stream, or what is passed through as TCP.",
        {.min = 1, .max = kDay, .zero_is_off = true}},
    Key{"timeouts.request", Kind::duration, in<kTimeouts, &Timeouts::request>,
        "A whole request, from its head to the last byte of the response.",
        {.min = 1, .max = kDay, .zero_is_off = true}},
    Key{"timeouts.connect", Kind::duration, in<kTimeouts, &Timeouts::connect>,
        "TCP connect to an endpoint.", {.min = 1, .max = kDay}},
    Key{"timeouts.tls", Kind::duration, in<kTimeouts, &Timeouts::tls>,
        "TLS handshake, on either side.", {.min = 1, .max = kDay}},
    Key{"timeouts.idle", Kind::duration, in<kTimeouts, &Timeouts::idle>,
        "A downstream connection without a request.",
        {.min = 1, .max = kDay, .zero_is_off = true}},
    Key{"timeouts.upstream_idle", Kind::duration, in<kTimeouts, &Timeouts::upstream_idle>,
        "An upstream connection kept without a request.",
        {.min = 1, .max = kDay, .zero_is_off = true}},
    Key{"timeouts.http2_keepalive", Kind::duration, in<kTimeouts, &Timeouts::http2_keepalive>,
        "Nothing arrives on an HTTP/2 connection: a PING asks for life, and 10 s without an answer "
        "end it. Many gRPC servers take less than 5 minutes for abuse.",
        {.min = 1000, .max = kDay, .zero_is_off = true}},
    Key{"timeouts.upstream_max_age", Kind::duration, in<kTimeouts, &Timeouts::upstream_max_age>,
        "Age at which an upstream connection is used no more.",
        {.min = 1, .max = kDay, .zero_is_off = true}},
    Key{"timeouts.drain", Kind::duration, in<kTimeouts, &Timeouts::drain>,
        "How long requests may take to end after SIGTERM.", {.min = 1, .max = kDay}},
    Key{"timeouts.drain_delay", Kind::duration, in<kTimeouts, &Timeouts::drain_delay>,
        "How long readiness says 503 before the drain begins.",
        {.min = 1, .max = kDay, .zero_is_off = true}},

    Key{"workers", Kind::count, at_top<&Config::workers>,
        "Worker threads.", {.min = 1, .max = 64, .reloadable = false,
        .default_note = "the cores, at most 2"}},
};
// clang-format on

// "outbound.services[3].hosts[1]" -> "outbound.services[].hosts[]".
std::string table_path(std::string_view shown_path) {
  std::string out;
  for (std::size_t i = 0; i < shown_path.size(); ++i) {
    out += shown_path[i];
    if (shown_path[i] != '[') continue;
    const auto close = shown_path.find(']', i);
    if (close == std::string_view::npos) break;
    i = close - 1;
  }
  return out;
}

}  // namespace

std::span<const Key> keys() {
  return kKeys;
}

const Key* find_key(std::string_view path) {
  const auto found =
      std::find_if(kKeys.begin(), kKeys.end(), [&](const Key& key) { return key.path == path; });
  return found == kKeys.end() ? nullptr : &*found;
}

const Key* find_shown_key(std::string_view shown_path) {
  return find_key(table_path(shown_path));
}

bool is_section(std::string_view path) {
  return std::any_of(kKeys.begin(), kKeys.end(), [&](const Key& key) {
    return key.path.size() > path.size() && key.path.starts_with(path) &&
           key.path[path.size()] == '.';
  });
}

std::vector<std::string_view> names_in(std::string_view section) {
  std::vector<std::string_view> names;
  for (const auto& key : kKeys) {
    auto rest = key.path;
    if (!section.empty()) {
      if (!rest.starts_with(section) || rest.size() == section.size()) continue;
      if (rest[section.size()] != '.') continue;
      rest.remove_prefix(section.size() + 1);
    }
    rest = rest.substr(0, rest.find_first_of(".["));
    if (std::find(names.begin(), names.end(), rest) == names.end()) names.push_back(rest);
  }
  return names;
}

bool is_scalar(Kind kind) noexcept {
  return kind <= Kind::endpoint;
}

bool has_flag(const Key& key) noexcept {
  return is_scalar(key.kind) && key.path.find('[') == std::string_view::npos;
}

std::string flag_name(const Key& key) {
  std::string name = "--";
  for (const char c : key.path) name += c == '.' || c == '_' ? '-' : c;
  return name;
}

std::string variable_name(const Key& key) {
  std::string name = "HOPLITE_";
  for (const char c : key.path) {
    name += c == '.' ? '_' : (c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c);
  }
  return name;
}

std::vector<std::string_view> choices_of(const Key& key) {
  std::vector<std::string_view> out;
  auto rest = key.traits.choices;
  while (!rest.empty()) {
    const auto bar = rest.find('|');
    out.push_back(rest.substr(0, bar));
    rest = bar == std::string_view::npos ? std::string_view{} : rest.substr(bar + 1);
  }
  return out;
}

Slot slot_of(const Key& key, Object object) {
  return std::visit(
      [](auto accessor, auto* root) -> Slot {
        if constexpr (std::is_invocable_v<decltype(accessor), decltype(*root)>) {
          return accessor(*root);
        } else {
          std::terminate();  // a key of one object asked of another: our own mistake
        }
      },
      key.at, object);
}

Config default_config() {
  Config config;
  config.stats.listen = {"127.0.0.1:15090", "127.0.0.1", 15090, {{"127.0.0.1", Family::ipv4}}};
  config.workers = std::clamp(std::thread::hardware_concurrency(), 1U, 2U);
  return config;
}

}  // namespace proxy::config
