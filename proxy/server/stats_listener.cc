// The stats pages over the same HTTP/1 codec as everything else.
// A scrape is written piece by piece as the client takes it; the whole text is never held.
#include "proxy/server/stats_listener.h"

#include <algorithm>
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

  Response(StatsListener& listener, http::ServerStream& from)
      : listener_(listener), patience_(listener.loop_, [this] { give_up(); }) {
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
    const bool all = listener_.pages_ == Pages::all;
    const bool readable = head.method == http::Method::get || head.method == http::Method::head;
    const bool scrape = all && path == "/stats/prometheus";
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

  void say(std::uint16_t status, std::string_view text) {
    http::Reply reply = http::make_reply(status, text);
    if (status == 405) reply.head.headers.add("allow", "GET, HEAD");
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
    send_piece();
  }

  // The next piece goes out when the last one has left.
  void send_piece() {
    while (scrape_ && unsent_ == 0) {
      text_.clear();
      const bool more = scrape_->next(text_);
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
    listener_.loop_.reap(std::unique_ptr<Response>(this));
  }

  StatsListener& listener_;
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

  Client(StatsListener& listener, std::unique_ptr<net::Transport> transport)
      : listener_(listener),
        connection_(std::move(transport), *this, static_cast<http::ServerConnectionOwner&>(*this),
                    http1::ServerConnectionOptions{}) {}
  ~Client() override {
    responses_.for_each([](Response& response) { delete &response; });
  }
  void begin() { connection_.start(); }

 private:
  void on_request_started(http::ServerStream& stream) override {
    responses_.push_back(*new Response(listener_, stream));
  }
  void on_closed(http::ServerConnection&, Error) override {
    unlink();
    listener_.loop_.reap(std::unique_ptr<Client>(this));
  }

  StatsListener& listener_;
  IntrusiveList<Response> responses_;  // owned: each reaps itself
  http1::ServerConnection connection_;
};

StatsListener::StatsListener(net::Loop& loop, telemetry::Collector& collector, Pages pages,
                             std::function<bool()> ready)
    : loop_(loop), collector_(collector), pages_(pages), ready_(std::move(ready)) {}

StatsListener::~StatsListener() {
  // Streams are cut by their connection's destructor, and their responses with them.
  clients_.for_each([](Client& client) { delete &client; });
}

Result<> StatsListener::listen(net::BoundSocket socket) {
  listeners_.push_back(
      std::make_unique<net::Listener>(loop_, static_cast<net::ListenerUser&>(*this)));
  return listeners_.back()->listen(std::move(socket));
}

void StatsListener::on_accept(std::unique_ptr<net::TcpTransport> transport) {
  if (clients_.size() >= kMaxClients) return;
  auto client = std::make_unique<Client>(*this, std::move(transport));
  clients_.push_back(*client);
  client.release()->begin();
}

}  // namespace proxy::server
