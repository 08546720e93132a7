// When each name is asked for again, and what an answer changes.
// Not the asking.
#include "proxy/server/name_refresh.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace proxy::server {
namespace {

using namespace std::chrono_literals;

// Answers to names that were asked together come together.
constexpr auto kGather = 20ms;

enum class Line : std::uint8_t { failed, answered };

telemetry::DnsOutcome outcome_of(net::LookupOutcome outcome) {
  return static_cast<telemetry::DnsOutcome>(outcome);
}
static_assert(static_cast<int>(net::LookupOutcome::failed) ==
              static_cast<int>(telemetry::DnsOutcome::failed));

std::vector<config::IpAddress> as_configured(const std::vector<net::SocketAddress>& addresses) {
  std::vector<config::IpAddress> out;
  out.reserve(addresses.size());
  for (const net::SocketAddress& address : addresses) {
    out.push_back(
        {address.host_text(), address.is_ipv6() ? config::Family::ipv6 : config::Family::ipv4});
  }
  return out;
}

// For a log line: the first few.
std::string list_of(const std::vector<config::IpAddress>& addresses) {
  constexpr std::size_t kShown = 8;
  std::vector<std::string_view> texts;
  texts.reserve(addresses.size());
  for (const auto& address : addresses) texts.push_back(address.text);
  if (texts.size() <= kShown) return fmt::format("{}", fmt::join(texts, ", "));
  const auto left = texts.size() - kShown;
  texts.resize(kShown);
  return fmt::format("{} and {} more", fmt::join(texts, ", "), left);
}

}  // namespace

struct NameRefresh::Name {
  Name(net::Loop& loop, std::string text, std::function<void(Name&)> due)
      : name(std::move(text)), next(loop, [this, due = std::move(due)] { due(*this); }) {}
  const std::string name;
  net::Timer next;
  std::vector<config::IpAddress> addresses;
  unsigned failures = 0;  // since the last answer
  bool heard_of = false;  // it has had an answer or a failure
};

NameRefresh::NameRefresh(net::Loop& loop, telemetry::Collector& collector, telemetry::Log& log,
                         std::function<void()> changed)
    : loop_(loop),
      collector_(collector),
      log_(log),
      limited_log_(log, 5, 10'000'000),
      changed_(std::move(changed)),
      publish_(loop, [this] { changed_(); }),
      give_up_(loop, [this] { go_on(); }),
      random_(std::random_device{}()) {}

NameRefresh::~NameRefresh() = default;

void NameRefresh::follow(const std::set<std::string>& names,
                         const std::vector<std::string>& servers, std::function<void()> then) {
  const net::Loop::Turn turn(loop_);
  std::erase_if(names_, [&](const auto& each) {
    const bool gone = !names.contains(each.first);
    if (gone) collector_.forget_dns_name(each.first);
    return gone;
  });
  // Also on a reload with the same servers: resolv.conf may say something else by now.
  loop_.reap(std::move(resolver_));
  resolver_ = std::make_unique<net::Resolver>(loop_, net::Resolver::Options{servers});
  then_ = std::move(then);
  bool waits = false;
  for (const std::string& text : names) {
    auto& name = names_[text];
    if (name == nullptr) {
      name = std::make_unique<Name>(loop_, text, [this](Name& due) { look_up(due); });
    }
    // Lookups that the old resolver had under way are asked anew.
    look_up(*name);
    waits = waits || !name->heard_of;
  }
  if (waits) {
    give_up_.start(kFirstAnswers);
  } else {
    go_on();
  }
}

void NameRefresh::go_on() {
  give_up_.stop();
  if (then_ != nullptr) std::exchange(then_, nullptr)();
}

std::vector<config::IpAddress> NameRefresh::addresses(const std::string& name) const {
  const auto known = names_.find(name);
  return known == names_.end() ? std::vector<config::IpAddress>{} : known->second->addresses;
}

void NameRefresh::look_up(Name& name) {
  name.next.stop();
  resolver_->look_up(name.name, [this, text = name.name](const net::DnsAnswer& answer) {
    const auto known = names_.find(text);
    if (known != names_.end()) answered(*known->second, answer);
  });
}

void NameRefresh::answered(Name& name, const net::DnsAnswer& answer) {
  collector_.count_dns_lookup(outcome_of(answer.outcome));
  if (answer.outcome == net::LookupOutcome::resolved) {
    const auto ttl = std::chrono::milliseconds(answer.ttl);
    const auto interval = ttl == 0s ? kWithoutTtl : std::clamp(ttl, kShortest, kLongest);
    name.next.start(with_jitter(interval));
    auto addresses = as_configured(answer.addresses);
    const bool changed = addresses != name.addresses;
    if (changed || name.failures > 0) {
      if (limited_log_.allow(static_cast<std::size_t>(Line::answered), loop_.now_us())) {
        log_.info("the name {} is at {}", name.name, list_of(addresses));
      }
    }
    name.failures = 0;
    name.addresses = std::move(addresses);
    collector_.set_dns_name(name.name, name.addresses.size(), std::chrono::system_clock::now());
    if (changed && !publish_.running()) publish_.start(kGather);
  } else {
    failed(name, answer);
  }
  name.heard_of = true;
  if (waiting() && std::all_of(names_.begin(), names_.end(),
                               [](const auto& each) { return each.second->heard_of; })) {
    go_on();
  }
}

void NameRefresh::failed(Name& name, const net::DnsAnswer& answer) {
  auto retry = kFirstRetry;
  for (unsigned i = 0; i < name.failures && retry < kLastRetry; ++i) retry *= 2;
  name.next.start(with_jitter(retry));
  if (name.failures++ == 0) {
    limited_log_.warning(
        Line::failed, loop_.now_us(), "the name {} was not found out ({}); {}", name.name,
        answer.error,
        name.addresses.empty()
            ? std::string("it has no address yet")
            : fmt::format("it stays at {} until there is an answer", list_of(name.addresses)));
  }
  if (name.addresses.empty()) collector_.set_dns_name(name.name, 0, {});
}

// Up to a tenth longer, so that many sidecars do not ask in step.
std::chrono::milliseconds NameRefresh::with_jitter(std::chrono::milliseconds interval) {
  std::uniform_int_distribution<std::int64_t> more(0, interval.count() / 10);
  return interval + std::chrono::milliseconds(more(random_));
}

}  // namespace proxy::server
