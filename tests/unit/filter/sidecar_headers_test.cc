// SidecarHeaders: the table of spec 3.5, both directions, requests, responses, local replies.
// Not peer metadata.
#include "proxy/filter/sidecar_headers.h"

#include <string>

#include "tests/support/catch.h"
#include "tests/unit/filter/fixture.h"

namespace proxy::filter {
namespace {

using telemetry::Direction;

const std::string kElement = "By=" + std::string(kOwn) + ";Hash=" + std::string(64, 'a') +
                             ";Subject=\"\";URI=" + std::string(kPeer);

struct Run {
  Run(Direction direction, std::optional<std::string_view> principal, config::Config its = {})
      : config(std::move(its)), connection(worker, direction, principal) {
    if (direction == Direction::inbound) {
      filter = std::make_unique<InboundSidecarHeaders>(config);
    } else {
      filter = std::make_unique<OutboundSidecarHeaders>(config);
    }
  }
  http::RequestHead ask(const Fields& fields) {
    http::RequestHead head = request(fields);
    REQUIRE(filter->on_request(head, scope));
    return head;
  }
  std::string asked(const Fields& fields, std::string_view name) {
    scope.request_id = {};
    return values(ask(fields).headers, name);
  }

  config::Config config;
  Worker worker;
  Connection connection;
  Scope scope = connection.scope();
  std::unique_ptr<Filter> filter;
};

}  // namespace

TEST_CASE("request headers as a default sidecar sets them", "[filter]") {
  struct Case {
    Direction direction;
    bool tls;
    Fields sent;
    std::string name;
    std::string passed;
  };
  const auto in = Direction::inbound;
  const auto out = Direction::outbound;
  const std::string operation = "reviews.books.svc.cluster.local:9080/*";
  const Case cases[] = {
      {out, true, {}, "x-forwarded-proto", "http"},
      {out, true, {{"X-Forwarded-Proto", "https"}}, "x-forwarded-proto", "https"},
      {in, false, {}, "x-forwarded-proto", "http"},
      {in, true, {}, "x-forwarded-proto", "https"},
      {in, true, {{"x-forwarded-proto", "http"}}, "x-forwarded-proto", "http"},
      {out, true, {{"x-forwarded-for", "1.2.3.4"}}, "x-forwarded-for", "1.2.3.4"},
      {in, true, {}, "x-forwarded-for", "-"},
      {out, true, {{"traceparent", "00-1-2-3"}}, "traceparent", "00-1-2-3"},
      {in, true, {{"b3", "0"}}, "b3", "0"},
      {out, true, {{"X-Request-Id", "mine"}}, "x-request-id", "mine"},
      {in, true, {{"x-request-id", "mine"}}, "x-request-id", "mine"},
      {in, true, {{"x-request-id", "one"}, {"x-request-id", "two"}}, "x-request-id", "one"},
      {out, true, {{"X-Forwarded-Client-Cert", "By=x"}}, "x-forwarded-client-cert", "-"},
      {out, true, {}, "x-forwarded-client-cert", "-"},
      {in, false, {{"x-forwarded-client-cert", "By=x"}}, "x-forwarded-client-cert", "-"},
      {in, true, {}, "x-forwarded-client-cert", kElement},
      {in,
       true,
       {{"X-Forwarded-Client-Cert", "By=x"}},
       "x-forwarded-client-cert",
       "By=x," + kElement},
      {in,
       true,
       {{"X-Forwarded-Client-Cert", "By=x"}, {"a", "b"}, {"x-forwarded-client-cert", "By=y"}},
       "x-forwarded-client-cert",
       "By=x,By=y," + kElement},
      {in, true, {{"x-forwarded-client-cert", ""}}, "x-forwarded-client-cert", kElement},
      {out, true, {}, "x-envoy-attempt-count", "1"},
      {in, true, {{"x-envoy-attempt-count", "99"}}, "x-envoy-attempt-count", "1"},
      {out, true, {}, "x-envoy-decorator-operation", operation},
      {out, true, {{"x-envoy-decorator-operation", "x"}}, "x-envoy-decorator-operation", operation},
      {in, true, {{"x-envoy-decorator-operation", "x"}}, "x-envoy-decorator-operation", "-"},
      {in, true, {}, "x-envoy-decorator-operation", "-"},
      {out, true, {{"x-envoy-expected-rq-timeout-ms", "5"}}, "x-envoy-expected-rq-timeout-ms", "-"},
      {in, true, {{"x-envoy-internal", "true"}}, "x-envoy-internal", "-"},
      {out, true, {{"X-Envoy-Retry-On", "5xx"}}, "x-envoy-retry-on", "-"},
      {in, false, {{"x-envoy-max-retries", "99"}}, "x-envoy-max-retries", "-"},
      {in, false, {{"x-envoy-upstream-rq-timeout-ms", "1"}}, "x-envoy-upstream-rq-timeout-ms", "-"},
      {in, false, {{"x-envoy-force-trace", "1"}}, "x-envoy-force-trace", "-"},
      {in, false, {{"x-envoy-original-path", "/a"}}, "x-envoy-original-path", "/a"},
      {in, false, {{"x-envoy-", "1"}}, "x-envoy-", "1"},
      {in, false, {{"user-agent", "curl"}}, "user-agent", "curl"},
      {out, false, {{"server", "a request may say this"}}, "server", "a request may say this"},
  };
  for (const Case& each : cases) {
    Run run(each.direction, each.tls ? std::optional(kPeer) : std::nullopt);
    CAPTURE(each.name, each.direction == in, each.tls);
    CHECK(run.asked(each.sent, each.name) == each.passed);
  }
}

TEST_CASE("a request id is made when there is none or no sane one", "[filter]") {
  for (const Direction direction : {Direction::inbound, Direction::outbound}) {
    Run run(direction, kPeer);
    for (const Fields& sent :
         {Fields{}, Fields{{"x-request-id", ""}}, Fields{{"x-request-id", "a b"}},
          Fields{{"x-request-id", std::string(129, 'a')}}, Fields{{"x-request-id", "\xff"}},
          Fields{{"x-request-id", std::string(1 << 20, 'a')}, {"x-request-id", "ok"}}}) {
      const std::string id = run.asked(sent, "x-request-id");
      CHECK(id.size() == 36);
      CHECK(run.scope.request_id.view() == id);
    }
  }
}

TEST_CASE("names in a certificate cannot break out of their element", "[filter]") {
  Run run(Direction::inbound, kPeer);
  run.connection.identity->subject = "CN=a\\\"b\r\n,O=x";
  run.connection.identity->dns_sans = {"web.shop", "evil;URI=spiffe://x", "a\"b,c"};
  const std::string start = kElement.substr(0, kElement.find("Subject"));
  CHECK(run.asked({}, "x-forwarded-client-cert") ==
        start + "Subject=\"CN=a\\\"b??,O=x\";URI=" + std::string(kPeer) +
            ";DNS=web.shop;DNS=\"evil;URI=spiffe://x\";DNS=\"a\\\"b,c\"");
}

TEST_CASE("a certificate of thousands of names makes no endless header", "[filter]") {
  Run run(Direction::inbound, kPeer);
  run.connection.identity->dns_sans.assign(5000, "a-rather-long-name.example.com");
  CHECK(run.asked({}, "x-forwarded-client-cert").size() < 9000);
}

TEST_CASE("the expected timeout is told when there is one", "[filter]") {
  config::Config config;
  config.timeouts.request = config::Milliseconds(15'000);
  for (const Direction direction : {Direction::inbound, Direction::outbound}) {
    Run run(direction, kPeer, config);
    CHECK(run.asked({}, "x-envoy-expected-rq-timeout-ms") == "15000");
    CHECK(run.asked({{"x-envoy-expected-rq-timeout-ms", "1"}}, "x-envoy-expected-rq-timeout-ms") ==
          "15000");
  }
}

TEST_CASE("attempts are counted up by whoever tries again", "[filter]") {
  Run run(Direction::outbound, kPeer);
  http::RequestHead head = run.ask({});
  set_attempt_count(head, 2);
  CHECK(values(head.headers, "x-envoy-attempt-count") == "2");
}

TEST_CASE("response headers as a default sidecar sets them", "[filter]") {
  struct Case {
    Direction direction;
    Fields asked;
    Fields answered;
    std::string name;
    std::string passed;
  };
  const auto in = Direction::inbound;
  const auto out = Direction::outbound;
  const std::string operation = "reviews.books.svc.cluster.local:9080/*";
  const Case cases[] = {
      {out, {}, {}, "server", "envoy"},
      {out, {}, {{"Server", "istio-envoy"}}, "server", "envoy"},
      {in, {}, {{"Server", "nginx"}, {"server", "x"}}, "server", "istio-envoy"},
      {in, {}, {}, "server", "istio-envoy"},
      {in, {}, {}, "x-envoy-upstream-service-time", "12"},
      {out,
       {},
       {{"X-Envoy-Upstream-Service-Time", "99999"}},
       "x-envoy-upstream-service-time",
       "12"},
      {in, {}, {}, "x-envoy-decorator-operation", operation},
      {in, {}, {{"x-envoy-decorator-operation", "app"}}, "x-envoy-decorator-operation", operation},
      {in, {{"x-envoy-decorator-operation", "x"}}, {}, "x-envoy-decorator-operation", "-"},
      {in, {{"x-envoy-decorator-operation", ""}}, {}, "x-envoy-decorator-operation", operation},
      {out, {}, {{"x-envoy-decorator-operation", "x"}}, "x-envoy-decorator-operation", "-"},
      {in, {{"x-request-id", "a"}}, {}, "x-request-id", "-"},
      {in, {}, {{"x-request-id", "app"}}, "x-request-id", "app"},
      {out, {}, {{"set-cookie", "a"}, {"set-cookie", "b"}}, "set-cookie", "a|b"},
  };
  for (const Case& each : cases) {
    Run run(each.direction, kPeer);
    run.ask(each.asked);
    run.scope.upstream_us = 12'999;
    http::ResponseHead head = response(each.answered);
    run.filter->on_response(head, run.scope);
    CAPTURE(each.name, each.direction == in);
    CHECK(values(head.headers, each.name) == each.passed);
  }
}

TEST_CASE("interim responses pass as they are", "[filter]") {
  for (const Direction direction : {Direction::inbound, Direction::outbound}) {
    Run run(direction, kPeer);
    run.ask({});
    http::ResponseHead head = response({{"link", "</a>"}, {"Server", "app"}}, 103);
    run.filter->on_response(head, run.scope);
    CHECK(head.headers.size() == 2);
    CHECK(values(head.headers, "server") == "app");
    http::ResponseHead switched = response({}, 101);
    run.filter->on_response(switched, run.scope);
    CHECK_FALSE(values(switched.headers, "server") == "-");
  }
}

TEST_CASE("local replies have a request id and a server", "[filter]") {
  for (const Direction direction : {Direction::inbound, Direction::outbound}) {
    const std::string server = direction == Direction::inbound ? "istio-envoy" : "envoy";
    Run run(direction, kPeer);
    run.ask({{"x-request-id", "mine"}});
    http::ResponseHead head = response({{"content-type", "text/plain"}}, 503);
    run.filter->on_local_reply(head, run.scope);
    CHECK(values(head.headers, "x-request-id") == "mine");
    CHECK(values(head.headers, "server") == server);
    CHECK(values(head.headers, "x-envoy-upstream-service-time") == "-");

    // A request that was no request: nothing is known, not even where it would have gone.
    Run early(direction, std::nullopt);
    early.scope.plan = nullptr;
    http::ResponseHead refused = response({}, 400);
    early.filter->on_local_reply(refused, early.scope);
    CHECK(values(refused.headers, "x-request-id").size() == 36);
    CHECK(values(refused.headers, "server") == server);
    CHECK(values(refused.headers, "x-envoy-decorator-operation") == "-");
  }
}

TEST_CASE("a refused plan names no operation", "[filter]") {
  for (const Direction direction : {Direction::inbound, Direction::outbound}) {
    Run run(direction, kPeer);
    run.connection.plan.operation.clear();
    CHECK(run.asked({{"x-envoy-decorator-operation", "x"}}, "x-envoy-decorator-operation") == "-");
    http::ResponseHead head = response({});
    run.filter->on_response(head, run.scope);
    CHECK(values(head.headers, "x-envoy-decorator-operation") == "-");
  }
}

}  // namespace proxy::filter
