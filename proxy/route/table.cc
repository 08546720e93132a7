// How a Table is built and searched: one normalised key in a buffer on the stack, and its tails.
// Not the validation of hosts: config/ does it for services, http1/ for requests.
#include "proxy/route/table.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include <fmt/format.h>

#include "proxy/http/text.h"

namespace proxy::route {
namespace {

constexpr std::string_view kUnknown = "unknown";
constexpr std::uint16_t kDefaultPort = 80;
constexpr std::size_t kMaxPortDigits = 5;

// A Host value in the one spelling that the keys have: "host:port", or "host:" without a port.
class Key {
 public:
  // False for what can be no host of ours.
  bool parse(std::string_view authority) noexcept;

  std::string_view host() const noexcept { return {text_.data(), host_}; }
  std::string_view whole() const noexcept { return {text_.data(), length_}; }
  // From this position of the host on, port included.
  std::string_view tail(std::size_t from) const noexcept { return whole().substr(from); }
  // The port of an authority that names none.
  void set_default_port(std::uint16_t port) noexcept {
    if (length_ != host_ + 1) return;
    char* at = text_.data() + length_;
    length_ += static_cast<std::size_t>(std::to_chars(at, at + kMaxPortDigits, port).ptr - at);
  }
  bool is_name() const noexcept { return text_[0] != '['; }

 private:
  bool put_name(std::string_view name) noexcept;
  bool put_ipv6(std::string_view address) noexcept;
  bool put_port(std::string_view digits) noexcept;

  std::array<char, Table::kMaxHostBytes + 1 + kMaxPortDigits> text_;
  std::size_t host_ = 0;
  std::size_t length_ = 0;
};

bool Key::parse(std::string_view authority) noexcept {
  if (authority.starts_with('[')) {
    const std::size_t close = authority.find(']');
    if (close == std::string_view::npos || !put_ipv6(authority.substr(1, close - 1))) return false;
    const std::string_view rest = authority.substr(close + 1);
    return rest.empty() ? put_port({}) : rest.front() == ':' && put_port(rest.substr(1));
  }
  const std::size_t colon = authority.find(':');
  if (!put_name(authority.substr(0, colon))) return false;
  return put_port(colon == std::string_view::npos ? std::string_view()
                                                  : authority.substr(colon + 1));
}

bool Key::put_name(std::string_view name) noexcept {
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.empty() || name.size() > Table::kMaxHostBytes) return false;
  char before = '.';
  for (const char c : name) {
    const char lower = http::to_lower(c);
    const bool usual = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9') ||
                       lower == '-' || lower == '_';
    if (!usual && (lower != '.' || before == '.')) return false;
    text_[length_++] = lower;
    before = lower;
  }
  host_ = length_;
  return before != '.';
}

bool Key::put_ipv6(std::string_view address) noexcept {
  std::array<char, INET6_ADDRSTRLEN> spelled{};
  if (address.size() >= spelled.size()) return false;
  std::copy(address.begin(), address.end(), spelled.begin());
  in6_addr binary{};
  if (::inet_pton(AF_INET6, spelled.data(), &binary) != 1) return false;
  if (::inet_ntop(AF_INET6, &binary, spelled.data(), spelled.size()) == nullptr) return false;
  const std::size_t length = std::strlen(spelled.data());
  text_[0] = '[';
  std::copy_n(spelled.begin(), length, text_.begin() + 1);
  text_[length + 1] = ']';
  length_ = host_ = length + 2;
  return true;
}

// Nothing after the colon is no port (RFC 3986 3.2.3).
bool Key::put_port(std::string_view digits) noexcept {
  text_[length_++] = ':';
  if (digits.empty()) return true;
  if (digits.size() > kMaxPortDigits) return false;
  std::uint16_t port = 0;
  const char* end = digits.data() + digits.size();
  const auto read = std::from_chars(digits.data(), end, port);
  if (read.ec != std::errc() || read.ptr != end) return false;
  char* at = text_.data() + length_;
  length_ += static_cast<std::size_t>(std::to_chars(at, at + kMaxPortDigits, port).ptr - at);
  return true;
}

bool is_wildcard(std::string_view host) noexcept {
  return host.starts_with("*.");
}

Plan refused_plan() {
  Plan plan;
  plan.service_name = "BlackHoleCluster";
  plan.service_namespace = kUnknown;
  plan.unmatched = true;
  return plan;
}

Plan passthrough_plan() {
  Plan plan = refused_plan();
  plan.service_name = "PassthroughCluster";
  plan.original = true;
  return plan;
}

bool within(const std::array<std::uint8_t, 16>& address, const std::array<std::uint8_t, 16>& base,
            unsigned bits) noexcept {
  const std::size_t whole = bits / 8;
  if (!std::equal(base.begin(), base.begin() + static_cast<std::ptrdiff_t>(whole),
                  address.begin())) {
    return false;
  }
  const unsigned rest = bits % 8;
  return rest == 0 || ((address[whole] ^ base[whole]) >> (8 - rest)) == 0;
}

Plan service_plan(const config::Service& service, std::uint32_t cluster) {
  Plan plan;
  plan.cluster = cluster;
  const auto exact = std::find_if_not(service.hosts.begin(), service.hosts.end(), is_wildcard);
  if (exact != service.hosts.end()) {
    plan.service = *exact;
  } else if (!service.hosts.empty()) {
    plan.service = service.hosts.front();
  }
  plan.service_name = service.name;
  if (plan.service_name.empty()) plan.service_name = plan.service.substr(0, plan.service.find('.'));
  plan.service_namespace = service.namespace_name.empty() ? kUnknown : service.namespace_name;
  plan.operation = fmt::format("{}:{}/*", plan.service, service.port);
  plan.original = service.resolution == config::Resolution::original;
  plan.traffic = service.traffic;
  return plan;
}

}  // namespace

Table Table::outbound(const config::Config& config) {
  Table table;
  table.plans_.reserve(config.outbound.services.size() + 2);
  table.plans_.push_back(refused_plan());
  for (const config::Service& service : config.outbound.services) {
    const auto plan = static_cast<std::uint32_t>(table.plans_.size());
    table.plans_.push_back(service_plan(service, plan - 1));
    for (const std::string& host : service.hosts) table.add_host(host, service.port, plan);
    for (const std::string& to : service.addresses) table.add_address(to, service.port, plan);
  }
  // Who goes to an endpoint goes to its service; an address that a service names itself is its own.
  for (std::uint32_t i = 0; i < config.outbound.services.size(); ++i) {
    for (const config::Endpoint& endpoint : config.outbound.services[i].endpoints) {
      for (const config::IpAddress& address : endpoint.addresses) {
        table.add_address(address.text, endpoint.port, i + 1);
      }
    }
  }
  std::stable_sort(table.networks_.begin(), table.networks_.end(),
                   [](const Network& a, const Network& b) { return a.bits > b.bits; });
  if (config.outbound.unknown_host == config::UnknownHost::passthrough) {
    table.passthrough_ = static_cast<std::uint32_t>(table.plans_.size());
    table.plans_.push_back(passthrough_plan());
  }
  return table;
}

Table Table::inbound(const config::Config& config) {
  const config::Workload& workload = config.workload;
  const auto plan_of = [&](const std::string& service, std::uint16_t port) {
    Plan plan;
    plan.cluster = 0;
    plan.original = config.interception != config::Interception::none;
    plan.service = plan.service_name = workload.canonical_service;
    if (!service.empty()) {
      plan.service = service;
      plan.service_name = service.substr(0, service.find('.'));
    }
    plan.service_namespace = workload.namespace_name;
    if (!plan.service.empty() && port != 0) {
      plan.operation = fmt::format("{}:{}/*", plan.service, port);
    }
    return plan;
  };
  Table table;
  table.single_ = true;
  table.plans_.push_back(refused_plan());
  table.plans_.push_back(plan_of(config.inbound.service, config.inbound.app.port));
  if (!config.inbound.ports.empty()) {
    table.plans_[1].service = workload.canonical_service;
    table.plans_[1].service_name = "InboundPassthroughCluster";
  }
  for (const config::InboundPort& port : config.inbound.ports) {
    Plan plan = plan_of(port.service.empty() ? config.inbound.service : port.service, port.port);
    plan.traffic = port.traffic;
    table.ports_.emplace(port.port, static_cast<std::uint32_t>(table.plans_.size()));
    table.plans_.push_back(std::move(plan));
  }
  return table;
}

std::size_t Table::DestinationHash::operator()(const OriginalDestination& to) const noexcept {
  const std::string_view bytes(reinterpret_cast<const char*>(to.address.data()), to.address.size());
  return std::hash<std::string_view>{}(bytes) * 31 + to.port;
}

void Table::add_address(std::string_view network, std::uint16_t port, std::uint32_t plan) {
  const std::size_t slash = network.find('/');
  const std::string literal(network.substr(0, slash));
  Network added{.base = {.address = {}, .port = port}, .bits = 128, .plan = plan};
  auto& bytes = added.base.address;
  const bool v4 = literal.find(':') == std::string::npos;
  if (v4) bytes[10] = bytes[11] = 0xff;
  if (::inet_pton(v4 ? AF_INET : AF_INET6, literal.c_str(), bytes.data() + (v4 ? 12 : 0)) != 1) {
    return;
  }
  if (slash == std::string_view::npos) {
    addresses_.try_emplace(added.base, plan);
    return;
  }
  unsigned bits = 0;
  const std::string_view digits = network.substr(slash + 1);
  std::from_chars(digits.data(), digits.data() + digits.size(), bits);
  added.bits = bits + (v4 ? 96 : 0);
  networks_.push_back(added);
}

void Table::add_host(std::string_view host, std::uint16_t port, std::uint32_t plan) {
  const bool wildcard = is_wildcard(host);
  if (wildcard) host.remove_prefix(1);
  // IPv6 stands in brackets in a Host value, in the configuration perhaps not.
  const bool bare_ipv6 = !wildcard && !host.starts_with('[') && host.find(':') != host.npos;
  std::string text = bare_ipv6 ? fmt::format("[{}]", host) : std::string(host);
  Key key;
  if (!wildcard && key.parse(text)) text = key.host();

  if (wildcard) longest_suffix_ = std::max(longest_suffix_, text.size());
  Hosts& hosts = wildcard ? wildcard_ : exact_;
  hosts.try_emplace(fmt::format("{}:{}", text, port), plan);
  const auto [any_port, fresh] = hosts.try_emplace(text + ':', plan);
  if (fresh || port != kDefaultPort) return;
  const bool was_default = hosts.at(fmt::format("{}:{}", text, port)) == any_port->second;
  if (!was_default) any_port->second = plan;
}

const Plan* Table::match_host(std::string_view authority, std::uint16_t port) const noexcept {
  Key key;
  if (!key.parse(authority)) return nullptr;
  if (port != 0) key.set_default_port(port);
  if (const auto found = exact_.find(key.whole()); found != exact_.end()) {
    return &plans_[found->second];
  }
  if (wildcard_.empty() || !key.is_name()) return nullptr;
  // From the left: the first suffix that is known is the longest one.
  const std::string_view host = key.host();
  const std::size_t start = host.size() > longest_suffix_ ? host.size() - longest_suffix_ : 0;
  for (std::size_t dot = host.find('.', start); dot != host.npos; dot = host.find('.', dot + 1)) {
    if (const auto found = wildcard_.find(key.tail(dot)); found != wildcard_.end()) {
      return &plans_[found->second];
    }
  }
  return nullptr;
}

const Plan& Table::match(std::string_view authority,
                         const OriginalDestination* original) const noexcept {
  if (single_) return original == nullptr ? plans_[1] : match_address(*original);
  const Plan* found = original == nullptr ? nullptr : match_host(authority, original->port);
  if (found == nullptr) found = match_host(authority, 0);
  if (found != nullptr) return *found;
  return original == nullptr ? plans_[0] : match_address(*original);
}

const Plan& Table::match_address(const OriginalDestination& original) const noexcept {
  if (single_) {
    const auto port = ports_.find(original.port);
    return plans_[port == ports_.end() ? 1 : port->second];
  }
  if (const auto found = addresses_.find(original); found != addresses_.end()) {
    return plans_[found->second];
  }
  for (const Network& network : networks_) {
    if (network.base.port == original.port &&
        within(original.address, network.base.address, network.bits)) {
      return plans_[network.plan];
    }
  }
  return plans_[passthrough_];
}

}  // namespace proxy::route
