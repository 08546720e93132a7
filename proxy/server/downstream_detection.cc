// What a connection is, by its first bytes: TLS to be ended here, HTTP and its version, or TCP.
// What was found is begun here; what it is served with is in downstream_http.cc and _tcp.cc.
#include <algorithm>
#include <array>

#include "proxy/detect/sniff.h"
#include "proxy/net/tls_transport.h"
#include "proxy/server/downstream_connection.h"
#include "proxy/server/worker.h"
#include "proxy/upstream/handshake.h"
#include "telemetry/record.h"
#include "tls/session.h"

namespace proxy::server {
namespace {

using telemetry::Detected;

constexpr std::byte kTlsHandshakeRecord{0x16};
constexpr std::string_view kExchangeAlpn = "istio-peer-exchange";

// As many of the first bytes as `into` can hold, in one piece.
template <std::size_t N>
std::span<const std::byte> copy_front(const Chain& bytes, std::array<std::byte, N>& into) {
  const auto seen = std::span(into).first(std::min(bytes.size(), N));
  bytes.copy_to(seen);
  return seen;
}

}  // namespace

void DownstreamConnection::on_bytes(Chain bytes) {
  if (state_ == State::closed) return;
  if (first_bytes_.empty()) {
    first_bytes_ = std::move(bytes);  // nearly always all that is needed
  } else {
    first_bytes_.append_compact(worker_.loop().chunks(), std::move(bytes));
  }
  detect();
}

void DownstreamConnection::detect() {
  if (state_ == State::sniffing) {
    sniff();
  } else if (state_ == State::versioning) {
    detect_version();
  } else if (state_ == State::undecided || state_ == State::hello) {
    detect_tls();
  }
}

void DownstreamConnection::on_eof() {
  const bool began = !first_bytes_.empty();
  const bool waiting = state_ == State::undecided || state_ == State::sniffing;
  if (state_ == State::versioning && began) {
    codec_ = upstream::Codec::http1;
    begin_http();  // a request that breaks off
  } else if (waiting && (began || tunnel_ != nullptr)) {
    become_tcp();  // it has only ended its own side
  } else {
    gone_while_opening();
    close();
  }
}

void DownstreamConnection::on_closed(Error) {
  if (state_ == State::closed) return;
  gone_while_opening();
  close();
}

// A peer that leaves without a word, as a TCP health check does, has failed at nothing.
void DownstreamConnection::gone_while_opening() {
  if (state_ == State::handshaking) {
    count_handshake(*secure_->handshake());
  } else if (state_ == State::hello && !first_bytes_.empty()) {
    fail_hello(tls::Failure::closed);
  }
}

// --- TLS of ours --------------------------------------------------------------------------

void DownstreamConnection::detect_tls() {
  const Snapshot& snapshot = worker_.snapshot();
  const config::MtlsMode mode = snapshot.config.mtls.mode;
  const bool begins_tls = first_bytes_.first().front() == kTlsHandshakeRecord;
  if (mode == config::MtlsMode::off || (mode == config::MtlsMode::permissive && !begins_tls)) {
    enter(intercepted() ? State::sniffing : State::versioning);
    detect();
    return;
  }
  if (state_ != State::hello) enter(State::hello);
  if (!begins_tls) {
    begin_tls(snapshot.mutual);  // which finds that this is no TLS
    return;
  }
  const tls::Peek peek = peek_hello();
  const bool hello = peek.kind == tls::Peek::Kind::hello;
  if (peek.kind == tls::Peek::Kind::need_more) return;
  if (peek.kind == tls::Peek::Kind::too_large) {
    tls::HandshakeFacts facts;
    facts.failure = tls::Failure::other;
    facts.detail = "the client's ClientHello is longer than 16 KiB: no TLS library sends that";
    count_handshake(facts);
    close();
  } else if (snapshot.terminate == nullptr || (hello && peek.hello.offers_mesh_alpn())) {
    begin_tls(snapshot.mutual);
  } else if (hello && snapshot.config.inbound.other_tls == config::OtherTls::pass) {
    become_tcp();
  } else {
    begin_tls(snapshot.terminate);  // also what is malformed: the session answers with the alert
  }
}

// A ClientHello, as far as it has come; what it names is noted.
tls::Peek DownstreamConnection::peek_hello() {
  tls::Peek peek;
  if (first_bytes_.size() < hello_bytes_) return peek;
  std::array<std::byte, tls::kMaxClientHello> copy;
  peek = tls::peek(copy_front(first_bytes_, copy));
  hello_bytes_ = peek.wanted;
  sni_ = peek.hello.sni;
  return peek;
}

void DownstreamConnection::begin_tls(std::shared_ptr<const tls::Context> context) {
  enter(State::handshaking);
  transport_->put_back(std::move(first_bytes_));
  transport_ = std::make_unique<net::TlsTransport>(
      std::move(transport_), std::make_unique<tls::Session>(std::move(context)));
  secure_ = transport_.get();
  transport_->start(*this);
}

void DownstreamConnection::on_open(const tls::HandshakeFacts* facts) {
  if (state_ != State::handshaking) return;  // a bare socket: bytes will tell
  count_handshake(*facts);
  describe_peer();
  handshake_done(facts->alpn);
}

void DownstreamConnection::handshake_done(std::string_view alpn) {
  const config::Traffic traffic = intercepted() ? tcp_plan().traffic : config::Traffic::http;
  if (alpn == kExchangeAlpn) {
    begin_exchange();
  } else if (!alpn.empty()) {
    codec_ = alpn == "h2" ? upstream::Codec::http2 : upstream::Codec::http1;
    begin_http();
  } else if (traffic == config::Traffic::http) {
    enter(State::versioning);
  } else if (traffic == config::Traffic::tcp) {
    become_tcp();
  } else {
    enter(State::sniffing);
    patience_.start(patience());
  }
}

void DownstreamConnection::count_handshake(const tls::HandshakeFacts& facts) {
  upstream::report_handshake(worker_.shard(), worker_.rate_limited_log(),
                             telemetry::Direction::inbound, facts, peer_address_,
                             {tls_started_us_, worker_.loop().now_us()});
}

// Ended before its ClientHello was there.
void DownstreamConnection::fail_hello(tls::Failure failure) {
  if (worker_.snapshot().mutual == nullptr) return;  // plaintext only, since a reload
  tls::Session session(worker_.snapshot().mutual);
  session.note_failure(failure);
  count_handshake(session.facts());
}

// --- HTTP or not --------------------------------------------------------------------------

void DownstreamConnection::sniff() {
  std::array<std::byte, detect::kMaxSniffed> copy;
  switch (detect::sniff(copy_front(first_bytes_, copy))) {
    case detect::Protocol::unclear:
      await_more();
      return;
    case detect::Protocol::http1:
      detected(Detected::http1);
      serve_http(upstream::Codec::http1);
      return;
    case detect::Protocol::http2:
      detected(Detected::http2);
      serve_http(upstream::Codec::http2);
      return;
    case detect::Protocol::tls:
      // The application's own. It passes, but its name is to be known, perhaps by the next segment.
      if (peek_hello().kind == tls::Peek::Kind::need_more) {
        await_more();
        return;
      }
      detected(Detected::tls);
      become_tcp();
      return;
    case detect::Protocol::tcp:
      detected(Detected::tcp);
      become_tcp();
      return;
  }
}

// HTTP/2 by prior knowledge (RFC 9113 3.3) on the port of HTTP/1.
void DownstreamConnection::detect_version() {
  std::array<std::byte, detect::kPrefaceSize> copy;
  switch (detect::http_version(copy_front(first_bytes_, copy))) {
    case detect::Protocol::unclear:
      await_more();
      return;
    case detect::Protocol::http2:
      codec_ = upstream::Codec::http2;
      break;
    default:
      codec_ = upstream::Codec::http1;
      break;
  }
  begin_http();
}

// The first bytes were not enough. What they begin has as long as a request's head.
void DownstreamConnection::await_more() {
  if (first_byte_us_ != 0) return;
  first_byte_us_ = worker_.loop().now_us();
  start_deadline(worker_.snapshot().config.timeouts.header);
}

void DownstreamConnection::detected(Detected what) {
  if (!intercepted()) return;
  worker_.shard().add(telemetry::Counter::detections, 1, direction_, what);
}

}  // namespace proxy::server
