// The resolver against a name server of the test: answers, failures, and what is no answer.
// Not the refreshing of names (unit_server).
#include "proxy/net/resolver.h"

#include <atomic>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/dns_server.h"
#include "tests/support/loop_fixture.h"

using namespace proxy;
using namespace proxy::test;
using namespace std::chrono_literals;
using net::DnsAnswer;
using net::LookupOutcome;

namespace {

using Messages = std::vector<std::string>;

// One name server and a resolver that asks it alone.
struct Rig {
  explicit Rig(DnsServer::Handler handler, std::chrono::milliseconds timeout = 5s, int tries = 3)
      : server(std::move(handler)),
        resolver(std::make_unique<net::Resolver>(
            fixture.loop, net::Resolver::Options{{server.address()}, timeout, tries})) {}
  ~Rig() {
    const net::Loop::Turn turn(fixture.loop);
    resolver.reset();
  }

  DnsAnswer look_up(const std::string& name) {
    std::optional<DnsAnswer> answer;
    {
      const net::Loop::Turn turn(fixture.loop);
      resolver->look_up(name, [&](DnsAnswer got) { answer = std::move(got); });
      CHECK_FALSE(answer.has_value());
    }
    REQUIRE(fixture.run_until([&] { return answer.has_value(); }, 60s));
    return std::move(*answer);
  }

  DnsServer server;
  LoopFixture fixture;
  std::unique_ptr<net::Resolver> resolver;
};

std::vector<std::string> texts(const DnsAnswer& answer) {
  std::vector<std::string> out;
  for (const auto& address : answer.addresses) out.push_back(address.host_text());
  return out;
}

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("addresses come sorted, each once, with the least TTL", "[unit]") {
  Rig rig([](const DnsQuery& query) {
    return Messages{dns_message(
        query, kNoError,
        {a_record("web.example", "10.0.0.9", 60), a_record("web.example", "10.0.0.1", 20),
         a_record("web.example", "0.0.0.0", 30), a_record("web.example", "10.0.0.9", 60)})};
  });
  const DnsAnswer answer = rig.look_up("web.example");
  CHECK(answer.outcome == LookupOutcome::resolved);
  CHECK(answer.error.empty());
  CHECK(texts(answer) == Texts{"10.0.0.1", "10.0.0.9"});
  CHECK(answer.addresses[0].port() == 0);
  CHECK(answer.ttl == 20s);
  for (const auto& query : rig.server.queries()) CHECK(query.type == kTypeA);
}

TEST_CASE("a name without A records is asked for by AAAA", "[unit]") {
  const int rcode = GENERATE(kNoError, kNxDomain);
  Rig rig([rcode](const DnsQuery& query) {
    if (query.type == kTypeA) return Messages{dns_message(query, rcode, {})};
    return Messages{dns_message(query, kNoError, {aaaa_record("six.example", "fd00::2", 7)})};
  });
  const DnsAnswer answer = rig.look_up("six.example");
  CHECK(answer.outcome == LookupOutcome::resolved);
  CHECK(texts(answer) == Texts{"fd00::2"});
  CHECK(answer.ttl == 7s);
}

TEST_CASE("an alias is followed, and its TTL counts", "[unit]") {
  Rig rig([](const DnsQuery& query) {
    return Messages{dns_message(
        query, kNoError,
        {cname_record("www.example", "lb.example", 5),
         cname_record("lb.example", "pod.example", 300), a_record("pod.example", "10.1.1.1", 60)})};
  });
  const DnsAnswer answer = rig.look_up("www.example");
  CHECK(texts(answer) == Texts{"10.1.1.1"});
  CHECK(answer.ttl == 5s);
}

TEST_CASE("how a lookup fails is told apart", "[unit]") {
  struct Case {
    int rcode;
    LookupOutcome outcome;
  };
  const auto [rcode, outcome] =
      GENERATE(Case{kNxDomain, LookupOutcome::not_found}, Case{kNoError, LookupOutcome::no_data},
               Case{kServFail, LookupOutcome::server_failure},
               Case{kRefused, LookupOutcome::server_failure});
  Rig rig([rcode](const DnsQuery& query) { return Messages{dns_message(query, rcode, {})}; });
  const DnsAnswer answer = rig.look_up("gone.example");
  INFO(rcode << " " << answer.error);
  CHECK(answer.outcome == outcome);
  CHECK_FALSE(answer.error.empty());
  CHECK(answer.addresses.empty());
}

TEST_CASE("a failed A lookup is a failure, whatever AAAA would say", "[unit]") {
  Rig rig([](const DnsQuery& query) {
    if (query.type == kTypeA) return Messages{dns_message(query, kServFail, {})};
    return Messages{dns_message(query, kNoError, {aaaa_record("web.example", "fd00::2", 7)})};
  });
  CHECK(rig.look_up("web.example").outcome == LookupOutcome::server_failure);
}

TEST_CASE("a silent server is asked again, and then given up", "[unit]") {
  Rig rig([](const DnsQuery&) { return Messages{}; }, 20ms, 2);
  CHECK(rig.look_up("web.example").outcome == LookupOutcome::timeout);
  CHECK(rig.fixture.run_until([&] { return rig.server.asked("web.example") == 2; }, 60s));
  // The next lookup works as if nothing had been.
  rig.server.answer_with([](const DnsQuery& query) {
    return Messages{dns_message(query, kNoError, {a_record("web.example", "10.0.0.1", 20)})};
  });
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  Texts got;
  while (got.empty() && std::chrono::steady_clock::now() < deadline) {
    got = texts(rig.look_up("web.example"));
  }
  CHECK(got == Texts{"10.0.0.1"});
}

TEST_CASE("a truncated answer is fetched by TCP, with as many addresses as are taken", "[unit]") {
  std::vector<DnsRecord> records;
  for (int i = 0; i < 300; ++i) {
    records.push_back(a_record(
        "many.example", "10.1." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1), 9));
  }
  Rig rig([records](const DnsQuery& query) {
    return Messages{
        dns_message(query, kNoError, query.tcp ? records : std::vector<DnsRecord>{}, !query.tcp)};
  });
  const DnsAnswer answer = rig.look_up("many.example");
  CHECK(answer.outcome == LookupOutcome::resolved);
  CHECK(answer.addresses.size() == net::Resolver::kMaxAddresses);
  CHECK(rig.server.queries().back().tcp);
}

TEST_CASE("who does not know the question is not believed", "[unit]") {
  Rig rig([](const DnsQuery& query) {
    DnsQuery other_id = query;
    other_id.id = static_cast<std::uint16_t>(query.id + 1);
    DnsQuery other_name = query;
    other_name.name = "evil.example";
    const auto lie = [](const DnsQuery& to) {
      return dns_message(to, kNoError, {a_record(to.name, "10.6.6.6", 60)});
    };
    return Messages{lie(other_id), lie(other_name),
                    dns_message(query, kNoError, {a_record("web.example", "10.0.0.1", 20)})};
  });
  CHECK(texts(rig.look_up("web.example")) == Texts{"10.0.0.1"});
}

TEST_CASE("what is no answer crashes nothing, and names no address", "[unit]") {
  // Every prefix of a good answer, and the same with each byte turned round.
  const std::size_t step = 3;
  std::atomic<std::size_t> at = 0;
  std::atomic<bool> cut = true;
  const auto whole = [](const DnsQuery& query) {
    return dns_message(
        query, kNoError,
        {cname_record("web.example", "pod.example", 5), a_record("pod.example", "10.0.0.1", 20)});
  };
  DnsQuery sized;
  sized.name = "web.example";
  const std::size_t size = whole(sized).size();
  Rig rig(
      [&](const DnsQuery& query) {
        std::string message = whole(query);
        if (cut) {
          message.resize(at);
        } else {
          message[at] = static_cast<char>(~message[at]);
        }
        return Messages{std::move(message)};
      },
      20ms, 1);
  for (; at < size; at += step) {
    const DnsAnswer answer = rig.look_up("web.example");
    CHECK(answer.outcome != LookupOutcome::resolved);
  }
  cut = false;
  for (at = 12; at < size; at += step) {
    for (const auto& address : rig.look_up("web.example").addresses) CHECK(address.is_set());
  }
}

TEST_CASE("names that DNS can't carry fail at once", "[unit]") {
  Rig rig([](const DnsQuery& query) { return Messages{dns_message(query, kNxDomain, {})}; });
  const std::string label(64, 'a');
  CHECK(rig.look_up(label + ".example").outcome == LookupOutcome::failed);
  std::string longest = "a";
  while (longest.size() < 300) longest += ".abcdefgh";
  CHECK(rig.look_up(longest).outcome == LookupOutcome::failed);
  CHECK(rig.server.queries().empty());
}

TEST_CASE("no server there is a failure too", "[unit]") {
  LoopFixture fixture;
  std::string nobody;
  {
    DnsServer gone([](const DnsQuery&) { return Messages{}; });
    nobody = gone.address();
  }
  std::optional<DnsAnswer> answer;
  net::Resolver resolver(fixture.loop, {{nobody}, 50ms, 1});
  {
    const net::Loop::Turn turn(fixture.loop);
    resolver.look_up("web.example", [&](DnsAnswer got) { answer = std::move(got); });
  }
  REQUIRE(fixture.run_until([&] { return answer.has_value(); }, 60s));
  INFO(answer->error);
  CHECK(answer->outcome != LookupOutcome::resolved);
}

TEST_CASE("a hundred lookups at a time, and destruction among them", "[unit]") {
  Rig rig([](const DnsQuery& query) {
    return Messages{dns_message(query, kNoError, {a_record(query.name, "10.0.0.1", 20)})};
  });
  std::size_t done = 0;
  {
    const net::Loop::Turn turn(rig.fixture.loop);
    for (int i = 0; i < 100; ++i) {
      rig.resolver->look_up("n" + std::to_string(i) + ".example",
                            [&](const DnsAnswer& answer) { done += answer.addresses.size(); });
    }
  }
  REQUIRE(rig.fixture.run_until([&] { return done == 100; }, 60s));
  {
    const net::Loop::Turn turn(rig.fixture.loop);
    for (int i = 0; i < 100; ++i) {
      rig.resolver->look_up("web.example", [&](const DnsAnswer&) { FAIL("told after its end"); });
    }
    rig.resolver.reset();
  }
  rig.fixture.settle();
}
