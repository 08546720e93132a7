// The steps of connecting: an address after the other, each in the whole attempt's time, then TLS.
// Not happy eyeballs: a sidecar's endpoints have one address each.
#include "proxy/upstream/connector.h"

#include <cerrno>
#include <utility>

#include "proxy/net/tls_transport.h"
#include "proxy/upstream/handshake.h"
#include "tls/alpn.h"

namespace proxy::upstream {
namespace {

telemetry::ConnectOutcome outcome_of(int error) {
  switch (error) {
    case ECONNREFUSED:
      return telemetry::ConnectOutcome::refused;
    case ETIMEDOUT:
      return telemetry::ConnectOutcome::timeout;
    case EHOSTUNREACH:
    case ENETUNREACH:
      return telemetry::ConnectOutcome::unreachable;
    default:
      return telemetry::ConnectOutcome::other;
  }
}

}  // namespace

Connecting::Connecting(Environment& environment, const Endpoint& endpoint, const ConnectSpec& spec,
                       Codec codec, ConnectUser& user)
    : environment_(environment),
      endpoint_(endpoint),
      spec_(spec),
      codec_(codec),
      user_(user),
      deadline_(environment.loop, [this] { timed_out(); }),
      started_us_(environment.loop.now_us()) {
  deadline_.start(spec.connect_timeout);
  try_address();
}

Connecting::~Connecting() = default;

void Connecting::give_up() noexcept {
  done_ = true;
  deadline_.stop();
}

void Connecting::try_address() {
  environment_.loop.reap(std::move(transport_));
  transport_ =
      net::TcpTransport::connect(environment_.loop, endpoint_.addresses[address_], spec_.options);
  transport_->start(*this);
}

void Connecting::on_open(const tls::HandshakeFacts* facts) {
  if (done_) return;
  if (facts == nullptr && spec_.tls != nullptr) {
    begin_tls();
    return;
  }
  if (facts != nullptr) count_handshake(*facts);
  done_ = true;
  deadline_.stop();
  telemetry::record(environment_.shard,
                    telemetry::ConnectFacts{telemetry::ConnectOutcome::ok,
                                            environment_.loop.now_us() - started_us_});
  user_.on_connected(*this, std::move(transport_));
}

void Connecting::begin_tls() {
  tls::ClientTarget target;
  target.sni = spec_.sni;
  target.expected_sans = spec_.expected_sans;
  target.alpn = spec_.tcp                ? tls::alpn::list(tls::alpn::kClientTcp)
                : codec_ == Codec::http2 ? tls::alpn::list(tls::alpn::kClientHttp2)
                                         : tls::alpn::list(tls::alpn::kClientHttp11);
  target.sessions = &environment_.sessions;
  target.session_key = endpoint_.text + "|" + spec_.sni;
  tls_started_us_ = environment_.loop.now_us();
  deadline_.start(spec_.tls_timeout);
  transport_ = std::make_unique<net::TlsTransport>(
      std::move(transport_), std::make_unique<tls::Session>(spec_.tls, std::move(target)));
  transport_->start(*this);
}

void Connecting::count_handshake(const tls::HandshakeFacts& facts) {
  report_handshake(environment_.shard, environment_.log, telemetry::Direction::outbound, facts,
                   endpoint_.text, {tls_started_us_, environment_.loop.now_us()});
}

// A server has nothing to say before TCP is open.
void Connecting::on_bytes(Chain) {
  finish_failed(make_error(Code::bad_response, Side::upstream), telemetry::ConnectOutcome::other);
}

void Connecting::on_eof() {
  finish_failed(make_error(Code::connect_failed, Side::upstream),
                telemetry::ConnectOutcome::refused);
}

void Connecting::on_closed(Error why) {
  if (done_) return;
  if (tls_started_us_ != 0) {
    count_handshake(*transport_->handshake());
    finish_failed(make_error(Code::upstream_tls, Side::upstream, why.detail),
                  telemetry::ConnectOutcome::tls);
    return;
  }
  if (address_ + 1 < endpoint_.addresses.size()) {
    ++address_;
    try_address();
    return;
  }
  finish_failed(make_error(Code::connect_failed, Side::upstream, why.detail),
                outcome_of(why.detail));
}

void Connecting::timed_out() {
  if (tls_started_us_ == 0) {
    finish_failed(make_error(Code::connect_timeout, Side::upstream),
                  telemetry::ConnectOutcome::timeout);
    environment_.shard.add(telemetry::Counter::timeouts, 1, telemetry::Timeout::connect);
    return;
  }
  transport_->session()->note_failure(tls::Failure::timeout);
  count_handshake(*transport_->handshake());
  environment_.shard.add(telemetry::Counter::timeouts, 1, telemetry::Timeout::tls);
  finish_failed(make_error(Code::upstream_tls, Side::upstream), telemetry::ConnectOutcome::tls);
}

void Connecting::finish_failed(Error why, telemetry::ConnectOutcome outcome) {
  if (done_) return;
  done_ = true;
  deadline_.stop();
  telemetry::record(environment_.shard,
                    telemetry::ConnectFacts{outcome, environment_.loop.now_us() - started_us_});
  environment_.loop.reap(std::move(transport_));
  user_.on_connect_failed(*this, why);
}

}  // namespace proxy::upstream
