// Users of streams for tests: notes and small actions.
// Not an exchange.
#include "tests/support/stream_users.h"

#include <algorithm>
#include <span>

namespace proxy::test {
namespace {

using Fields = std::initializer_list<std::pair<std::string_view, std::string_view>>;

void add_all(http::HeaderMap& headers, Fields fields) {
  for (const auto& [name, value] : fields) headers.add(name, value);
}

std::string describe(const http::ResponseHead& head) {
  std::string text = std::to_string(head.status);
  if (head.upgrade.length != 0) text += " upgrade=" + std::string(head.upgrade_view());
  if (head.has_declared_length) text += " declared=" + std::to_string(head.declared_length);
  return text + fields_of(head.headers);
}

void note_data(Notes& notes, const Chain& body) {
  notes.body += text_of(body);
  notes.owed += body.size();
  notes.most_owed = std::max(notes.most_owed, notes.owed);
}

void call(const std::function<void()>& action) {
  if (action) action();
}

}  // namespace

std::string fields_of(const http::HeaderMap& headers) {
  std::string text;
  for (const auto& field : headers.fields()) {
    if (field.removed) continue;
    text += " | ";
    text += headers.name(field);
    text += ": ";
    text += headers.value(field);
  }
  return text;
}

std::string text_of(const Chain& chain) {
  std::string text(chain.size(), '\0');
  chain.copy_to(std::as_writable_bytes(std::span(text)));
  return text;
}

Chain chain_of(net::Loop& loop, std::string_view text) {
  Chain chain;
  chain.append_copy(loop.chunks(), text);
  return chain;
}

// --- server side ---------------------------------------------------------------------------------

void TestRequest::head(std::uint16_t status, http::BodyLength body, Fields fields) {
  net::Loop::Turn turn(loop_);
  http::ResponseHead head;
  head.status = status;
  head.body = body;
  add_all(head.headers, fields);
  if (stream) stream->send_head(head);
}

void TestRequest::reply(std::uint16_t status, std::string_view body, Fields fields) {
  net::Loop::Turn turn(loop_);
  head(status,
       {body.empty() ? http::BodyLength::Kind::none : http::BodyLength::Kind::known, body.size()},
       fields);
  if (!body.empty()) data(body);
  end();
}

void TestRequest::upgrade(std::string_view protocol) {
  net::Loop::Turn turn(loop_);
  http::ResponseHead head;
  head.status = 101;
  head.upgrade = head.headers.put(protocol);
  if (stream) stream->send_head(head);
}

void TestRequest::inform(std::uint16_t status, Fields fields) {
  net::Loop::Turn turn(loop_);
  http::ResponseHead head;
  head.status = status;
  add_all(head.headers, fields);
  if (stream) stream->send_informational(head);
}

void TestRequest::data(std::string_view text) {
  net::Loop::Turn turn(loop_);
  if (stream) stream->send_data(chain_of(loop_, text));
}

void TestRequest::end(Fields trailers) {
  net::Loop::Turn turn(loop_);
  http::HeaderMap map;
  add_all(map, trailers);
  if (stream) stream->send_end(std::move(map));
}

void TestRequest::consume(std::size_t bytes) {
  net::Loop::Turn turn(loop_);
  notes.owed -= bytes;
  if (stream) stream->consume(bytes);
}

void TestRequest::reset(Error why) {
  net::Loop::Turn turn(loop_);
  if (stream) stream->reset(why);
}

void TestRequest::on_head(http::RequestHead& head) {
  std::string text(head.method_view());
  text += ' ';
  text += head.target_view();
  text += ' ';
  text += head.authority_view();
  if (head.upgrade.length != 0) text += " upgrade=" + std::string(head.upgrade_view());
  notes.heads.push_back(text + fields_of(head.headers));
  std::swap(request, head);
  call(when_head);
}

void TestRequest::on_refused(Error why) {
  ++refusals;
  notes.why = why;
  call(when_refused);
}

void TestRequest::on_data(Chain body) {
  note_data(notes, body);
  if (auto_consume) consume(body.size());
  call(when_data);
}

void TestRequest::on_end(http::HeaderMap trailers) {
  ++notes.ends;
  notes.trailers = fields_of(trailers);
  call(when_end);
}

void TestRequest::on_sent(std::size_t bytes) {
  notes.sent += bytes;
  call(when_sent);
}

void TestRequest::on_done(http::Wire wire, bool complete) {
  ++dones;
  notes.wire = wire;
  request_complete = complete;
}

void TestRequest::on_reset(Error why, http::Wire wire) {
  ++notes.resets;
  notes.why = why;
  notes.wire = wire;
}

void TestHandler::on_request_started(http::ServerStream& stream) {
  requests.push_back(std::make_unique<TestRequest>(loop_));
  TestRequest& request = *requests.back();
  join<http::ServerStream, http::RequestUser>(stream, stream.user, request, request.stream);
  if (when_started) when_started(request);
}

void TestHandler::on_closed(http::ServerConnection& connection, Error why) {
  ++closed;
  close_reason = why;
  if (when_closed) when_closed(connection);
}

// --- client side ---------------------------------------------------------------------------------

void TestResponse::request(std::string_view method, std::string_view target, http::BodyLength body,
                           Fields fields, std::string_view upgrade) {
  net::Loop::Turn turn(loop_);
  http::RequestHead head;
  head.method = http::find_method(method);
  head.method_text = head.headers.put(method);
  head.target = head.headers.put(target);
  head.authority = head.headers.put("app.example");
  head.upgrade = head.headers.put(upgrade);
  head.body = body;
  add_all(head.headers, fields);
  if (stream) stream->send_head(head);
}

void TestResponse::data(std::string_view text) {
  net::Loop::Turn turn(loop_);
  if (stream) stream->send_data(chain_of(loop_, text));
}

void TestResponse::end(Fields trailers) {
  net::Loop::Turn turn(loop_);
  http::HeaderMap map;
  add_all(map, trailers);
  if (stream) stream->send_end(std::move(map));
}

void TestResponse::consume(std::size_t bytes) {
  net::Loop::Turn turn(loop_);
  notes.owed -= bytes;
  if (stream) stream->consume(bytes);
}

void TestResponse::reset(Error why) {
  net::Loop::Turn turn(loop_);
  if (stream) stream->reset(why);
}

void TestResponse::on_informational(http::ResponseHead& head) {
  notes.heads.push_back(describe(head));
}

void TestResponse::on_head(http::ResponseHead& head) {
  status = head.status;
  notes.heads.push_back(describe(head));
  call(when_head);
}

void TestResponse::on_data(Chain body) {
  note_data(notes, body);
  if (auto_consume) consume(body.size());
  call(when_data);
}

void TestResponse::on_end(http::HeaderMap trailers) {
  ++notes.ends;
  notes.trailers = fields_of(trailers);
  call(when_end);
}

void TestResponse::on_sent(std::size_t bytes) {
  notes.sent += bytes;
  call(when_sent);
}

void TestResponse::on_reset(Error why, http::Wire wire) {
  ++notes.resets;
  notes.why = why;
  notes.wire = wire;
}

void TestClientOwner::on_closed(http::ClientConnection& connection, Error why) {
  ++closed;
  close_reason = why;
  if (when_closed) when_closed(connection);
}

}  // namespace proxy::test
