// The stats pages over the same HTTP/1 codec as everything else.
// A scrape is written piece by piece as the client takes it; the whole text is never held.
#include "proxy/server/stats_listener.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/http/reply.h"
#include "proxy/http/text.h"
#include "proxy/http1/server_connection.h"
#include "proxy/net/timer.h"
#include "proxy/server/gzip.h"

namespace proxy::server {

// Answers one request; owned by its client's list until its stream has ended.
class StatsListener::Response final : public http::RequestUser,
                                      public net::Reapable,
                                      public ListHook<Response> {
 public:
  using ListHook<Response>::unlink;

  Response(StatsListener& listener, http::ServerStream& from, bool from_loopback)
      : listener_(listener),
        from_loopback_(from_loopback),
        patience_(listener.loop_, [this] { give_up(); }) {
    join(static_cast<http::RequestUser&>(*this), stream, from, from.user);
    patience_.start(kPatience);
  }

 private:
  static constexpr std::string_view kText = "text/plain; version=0.0.4; charset=utf-8";
  // For a head to be complete, then from one piece that was taken to the next.
  static constexpr std::chrono::seconds kPatience{60};

  void on_head(http::RequestHead& head) override {
    patience_.start(kPatience);
    std::string_view path = head.target_view();
    path = path.substr(0, path.find('?'));
    if (listener_.pages_ == Pages::agent && agent_page(head, path)) return;
    const bool all = listener_.pages_ != Pages::ready_only;
    const bool readable = head.method == http::Method::get || head.method == http::Method::head;
    const bool scrape = all && (path == "/stats/prometheus" ||
                                (listener_.pages_ == Pages::agent && path == "/metrics"));
    const bool live = all && path == "/healthz/live";
    if (!scrape && !live && path != "/healthz/ready") {
      say(404, "not found; there are /stats/prometheus, /healthz/ready and /healthz/live\n");
    } else if (!readable) {
      say(405, "only GET and HEAD\n");
    } else if (scrape) {
      begin_scrape(head);
    } else if (live || listener_.ready_()) {
      say(200, "ok\n");
    } else {
      say(503, "draining\n");
    }
  }

  // True when this is a page of the agent's.
  bool agent_page(const http::RequestHead& head, std::string_view path) {
    if (path == "/quitquitquit" || path == "/drain") {
      leave(head, path == "/drain");
      return true;
    }
    if (!path.starts_with("/app-health/") && !path.starts_with("/app-lifecycle/")) return false;
    const config::Prober* prober = listener_.agent_->prober(path);
    if (prober == nullptr) {
      say(404, "no such probe\n");
    } else {
      patience_.stop();  // it has a deadline of its own, and a hook's is long
      fetch_ = listener_.agent_->probe(*prober, [this](bool well) {
        drop_fetch();
        patience_.start(kPatience);
        say(well ? 200 : 503, well ? "ok\n" : "the app's probe failed\n");
      });
    }
    return true;
  }

  // As Istio's agent: POST, and only from the pod itself.
  void leave(const http::RequestHead& head, bool drain) {
    if (head.method != http::Method::post) {
      say(405, "only POST\n", "POST");
    } else if (!from_loopback_) {
      say(403, "only from loopback\n");
    } else {
      say(200, "ok\n");
      if (drain) {
        listener_.agent_->drain();
      } else {
        listener_.agent_->quit();
      }
    }
  }

  void drop_fetch() { listener_.loop_.reap(std::move(fetch_)); }

  void say(std::uint16_t status, std::string_view text, std::string_view allow = "GET, HEAD") {
    http::Reply reply = http::make_reply(status, text);
    if (status == 405) reply.head.headers.add("allow", allow);
    answer(std::move(reply));
  }

  void answer(http::Reply reply) {
    answered_ = true;
    stream->send_head(reply.head);
    Chain body;
    body.append_copy(listener_.loop_.chunks(), reply.body);
    stream->send_data(std::move(body));
    stream->send_end({});
  }

  static bool wants_gzip(const http::HeaderMap& headers) {
    return std::any_of(headers.fields().begin(), headers.fields().end(), [&](const auto& field) {
      return !field.removed && http::equals_ignore_case(headers.name(field), "accept-encoding") &&
             accepts_gzip(headers.value(field));
    });
  }

  void begin_scrape(const http::RequestHead& head) {
    http::ResponseHead answer;
    answer.status = 200;
    answer.body.kind = http::BodyLength::Kind::unknown;
    answer.headers.add(http::NameId::content_type, kText);
    answer.headers.add("vary", "Accept-Encoding");
    if (wants_gzip(head.headers)) {
      answer.headers.add("content-encoding", "gzip");
      gzip_.emplace();
    }
    stream->send_head(answer);
    answered_ = true;
    if (head.method == http::Method::head) {
      stream->send_end({});
      return;
    }
    scrape_.emplace(listener_.collector_.scrape());
    if (listener_.pages_ == Pages::agent) begin_merge(head);
    send_piece();
  }

  // The app is asked while our own lines are on their way; what it says follows them. Its process
  // is what process_* is about here: ours is at the stats listener.
  void begin_merge(const http::RequestHead& head) {
    fetch_ = listener_.agent_->fetch_metrics(merge_time(head.headers), [this](std::string text) {
      drop_fetch();
      app_text_ = std::move(text);
      if (stream) send_piece();
    });
    if (fetch_ != nullptr) scrape_->leave_out_process();
  }

  // Prometheus tells how long it waits; some of that is for our own part.
  static std::chrono::milliseconds merge_time(const http::HeaderMap& headers) {
    constexpr std::chrono::milliseconds kUsual{5000};
    for (const auto& field : headers.fields()) {
      if (field.removed ||
          !http::equals_ignore_case(headers.name(field), "x-prometheus-scrape-timeout-seconds")) {
        continue;
      }
      unsigned seconds = 0;
      const std::string_view value = headers.value(field);
      std::from_chars(value.data(), value.data() + value.size(), seconds);
      if (seconds == 0) return std::chrono::milliseconds(500);
      return std::min(kUsual, std::chrono::milliseconds(std::min(seconds, 60U) * 800));
    }
    return kUsual;
  }

  // The next piece goes out when the last one has left.
  void send_piece() {
    while (scrape_ && unsent_ == 0) {
      text_.clear();
      bool more = scrape_->next(text_);
      if (!more && text_.empty()) {
        if (fetch_ != nullptr) return;  // the app's part has yet to come
        text_.swap(app_text_);
      }
      more = more || !app_text_.empty() || fetch_ != nullptr;
      Chain body;
      if (gzip_) {
        gzip_->add(text_, !more, body, listener_.loop_.chunks());
      } else {
        body.append_copy(listener_.loop_.chunks(), text_);
      }
      if (!more) scrape_.reset();
      unsent_ += body.size();
      if (!body.empty()) stream->send_data(std::move(body));
      if (!more) stream->send_end({});
    }
  }

  void on_refused(Error why) override {
    if (!answered_) {
      answer(http::make_reply(why));
    } else if (scrape_) {
      stream->reset(why);
      end();
    }
  }
  void on_data(Chain body) override { stream->consume(body.size()); }
  void on_end(http::HeaderMap) override {}
  void on_sent(std::size_t bytes) override {
    patience_.start(kPatience);
    unsent_ -= std::min(bytes, unsent_);
    if (stream) send_piece();
  }
  void on_done(http::Wire, bool) override { end(); }
  void on_reset(Error, http::Wire) override { end(); }
  void give_up() {
    stream->reset(make_error(Code::response_stalled, Side::downstream));
    end();
  }
  void end() {
    patience_.stop();
    unlink();
    drop_fetch();
    listener_.loop_.reap(std::unique_ptr<Response>(this));
  }

  StatsListener& listener_;
  const bool from_loopback_;
  std::unique_ptr<Fetch> fetch_;  // to the app
  std::string app_text_;
  net::Timer patience_;
  bool answered_ = false;
  std::optional<telemetry::Scrape> scrape_;
  std::optional<GzipStream> gzip_;
  std::string text_;
  std::size_t unsent_ = 0;
};

class StatsListener::Client final : public net::Reapable,
                                    public ListHook<Client>,
                                    private http::RequestHandler,
                                    private http::ServerConnectionOwner {
 public:
  using ListHook<Client>::unlink;

  Client(StatsListener& listener, std::unique_ptr<net::TcpTransport> transport)
      : listener_(listener),
        from_loopback_(transport->peer_address().unmapped().is_loopback()),
        connection_(std::move(transport), *this, static_cast<http::ServerConnectionOwner&>(*this),
                    http1::ServerConnectionOptions{}) {}
  ~Client() override {
    responses_.for_each([](Response& response) { delete &response; });
  }
  void begin() { connection_.start(); }
  bool idle() const noexcept { return connection_.idle(); }
  void leave() { connection_.abort(make_error(Code::idle, Side::local)); }

 private:
  void on_request_started(http::ServerStream& stream) override {
    responses_.push_back(*new Response(listener_, stream, from_loopback_));
  }
  void on_closed(http::ServerConnection&, Error) override {
    unlink();
    listener_.loop_.reap(std::unique_ptr<Client>(this));
  }

  StatsListener& listener_;
  const bool from_loopback_;
  IntrusiveList<Response> responses_;  // owned: each reaps itself
  http1::ServerConnection connection_;
};

StatsListener::StatsListener(net::Loop& loop, telemetry::Collector& collector, Pages pages,
                             std::function<bool()> ready, AgentPages* agent)
    : loop_(loop), collector_(collector), pages_(pages), ready_(std::move(ready)), agent_(agent) {}

StatsListener::~StatsListener() {
  // Streams are cut by their connection's destructor, and their responses with them.
  clients_.for_each([](Client& client) { delete &client; });
}

Result<> StatsListener::listen(net::BoundSocket socket) {
  listeners_.push_back(
      std::make_unique<net::Listener>(loop_, static_cast<net::ListenerUser&>(*this)));
  return listeners_.back()->listen(std::move(socket));
}

// Connections that ask for nothing must not keep the kubelet and Prometheus out.
bool StatsListener::make_room() {
  Client* oldest = nullptr;
  clients_.for_each([&](Client& client) {
    if (oldest == nullptr && client.idle()) oldest = &client;
  });
  if (oldest != nullptr) oldest->leave();
  return oldest != nullptr;
}

void StatsListener::on_accept(std::unique_ptr<net::TcpTransport> transport) {
  if (clients_.size() >= kMaxClients && !make_room()) {
    collector_.count_stats_refused();
    return;
  }
  auto client = std::make_unique<Client>(*this, std::move(transport));
  clients_.push_back(*client);
  client.release()->begin();
}

}  // namespace proxy::server
