// Questions to the app, and what their answers mean.
#include "proxy/server/agent_pages.h"

#include <algorithm>

#include "proxy/net/original_destination.h"
#include "telemetry/text_format.h"

namespace proxy::server {
namespace {

// Text format 0.0.4, or what old exporters call it: what may stand behind our own lines.
// OpenMetrics has an end of its own and names counters otherwise.
bool says_text_format(std::string_view content_type) {
  return content_type.empty() || content_type.starts_with("text/plain");
}

}  // namespace

AgentPages::AgentPages(net::Loop& loop, const config::Config& config, std::function<void()> drain,
                       std::function<void()> quit)
    : loop_(loop), drain_(std::move(drain)), quit_(std::move(quit)) {
  configure(config);
}

void AgentPages::configure(const config::Config& config) {
  agent_ = config.agent;
  intercepts_ = config.interception != config::Interception::none;
  probers_ = config::parse_probers(agent_.probers).value_or(std::vector<config::Prober>{});
}

FetchRequest AgentPages::request_to(std::uint16_t port) const {
  FetchRequest request;
  request.to = net::SocketAddress::parse(agent_.app_address, port).value_or(net::SocketAddress{});
  // From here the rules let our connections to the pod's own address pass.
  if (intercepts_) request.from.source = net::passthrough_source(request.to.is_ipv6());
  request.authority = request.to.text();
  return request;
}

std::unique_ptr<Fetch> AgentPages::fetch_metrics(std::chrono::milliseconds timeout,
                                                 std::function<void(std::string)> done) {
  if (agent_.metrics_port == 0) return nullptr;
  FetchRequest request = request_to(agent_.metrics_port);
  request.target = agent_.metrics_path;
  request.timeout = timeout;
  request.max_body = kMaxMetrics;
  request.headers = {{"accept", "text/plain;version=0.0.4;q=1,*/*;q=0.1"}};
  return std::make_unique<Fetch>(
      loop_, std::move(request), [done = std::move(done)](Fetch&, FetchResult result) {
        const bool fine = result.status == 200 && result.complete && !result.encoded &&
                          says_text_format(result.content_type) &&
                          telemetry::is_text_format(result.body);
        if (!fine) result.body.clear();
        if (!result.body.empty() && !result.body.ends_with('\n')) result.body += '\n';
        done(std::move(result.body));
      });
}

const config::Prober* AgentPages::prober(std::string_view path) const {
  const auto found = std::find_if(probers_.begin(), probers_.end(),
                                  [&](const auto& each) { return each.path == path; });
  return found == probers_.end() ? nullptr : &*found;
}

// As the kubelet judges: any answer from 200 to 399, an open port, a service that is SERVING.
std::unique_ptr<Fetch> AgentPages::probe(const config::Prober& prober,
                                         std::function<void(bool)> done) {
  FetchRequest request = request_to(prober.port);
  const bool tcp = prober.kind == config::ProbeKind::tcp ||
                   (prober.kind == config::ProbeKind::http && prober.https);
  const bool grpc = prober.kind == config::ProbeKind::grpc;
  request.kind = tcp    ? FetchRequest::Kind::tcp
                 : grpc ? FetchRequest::Kind::grpc_health
                        : FetchRequest::Kind::http;
  request.target = prober.target;
  if (!prober.host.empty()) request.authority = prober.host;
  request.headers = prober.headers;
  if (!grpc) request.headers.emplace_back("user-agent", "hoplite-probe");
  request.service = prober.service;
  request.timeout = prober.timeout;
  return std::make_unique<Fetch>(
      loop_, std::move(request),
      [tcp, grpc, done = std::move(done)](Fetch&, const FetchResult& result) {
        const bool answered = result.status >= 200 && result.status < 400;
        done(tcp ? result.connected : grpc ? result.serving : answered);
      });
}

}  // namespace proxy::server
