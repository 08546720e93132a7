// The life of one HTTP/2 connection of the test service: frames in, calls, frames out.
// Not the proxy's codec and sharing nothing with it.
#include "tests/support/test_service/grpc_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace test_service {
namespace {

constexpr std::size_t kReadSize = 64 * 1024;
constexpr std::size_t kHighWater = 512 * 1024;
constexpr std::int32_t kStreamWindow = 1024 * 1024;
constexpr std::int32_t kConnectionWindow = 16 * 1024 * 1024;
constexpr unsigned kResourceExhausted = 8;

std::string_view view(const std::uint8_t* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

// Both must live until the frame is packed.
nghttp2_nv field(std::string_view name, std::string_view value) {
  return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(),
          value.size(), NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

}  // namespace

struct GrpcCallbacks {
  static GrpcConnection& self(void* user) { return *static_cast<GrpcConnection*>(user); }
  static Call* call(void* user, std::int32_t id) {
    auto& calls = self(user).calls_;
    const auto found = calls.find(id);
    return found == calls.end() ? nullptr : found->second.get();
  }

  static int begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    auto call = std::make_unique<Call>();
    call->id = frame->hd.stream_id;
    self(user).calls_.emplace(call->id, std::move(call));
    return 0;
  }

  static int header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                    std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                    std::uint8_t, void* user) {
    Call* const to = call(user, frame->hd.stream_id);
    if (to == nullptr || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    const std::string_view text = view(value, value_size);
    const std::string_view key = view(name, name_size);
    if (key == ":path") {
      to->path = text;
    } else if (key == "content-type") {
      to->grpc = text.starts_with("application/grpc");
    } else if (key == "grpc-encoding") {
      to->encoding = text;
    } else if (key == "x-echo-count") {
      std::from_chars(text.data(), text.data() + text.size(), to->repeat);
    }
    return 0;
  }

  static int data(nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* bytes,
                  std::size_t size, void* user) {
    if (Call* const to = call(user, id)) self(user).take_body(*to, view(bytes, size));
    return 0;
  }

  static int frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    Call* const of = call(user, frame->hd.stream_id);
    if (of == nullptr) return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
      self(user).choose_method(*of);
    }
    const bool carries = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (carries && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) self(user).end_request(*of);
    return 0;
  }

  static int closed(nghttp2_session*, std::int32_t id, std::uint32_t, void* user) {
    self(user).calls_.erase(id);
    return 0;
  }

  static ssize_t read(nghttp2_session* session, std::int32_t id, std::uint8_t* into,
                      std::size_t room, std::uint32_t* flags, nghttp2_data_source* source, void*) {
    Call& call = *static_cast<Call*>(source->ptr);
    const std::size_t size = std::min(room, call.out.size() - call.out_at);
    std::memcpy(into, call.out.data() + call.out_at, size);
    call.out_at += size;
    if (call.out_at == call.out.size()) {
      call.out.clear();
      call.out_at = 0;
      if (call.owed > 0) {
        nghttp2_session_consume_stream(session, id, call.owed);
        call.owed = 0;
      }
      if (call.finished) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (call.grpc) {
          *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
          const std::string status = std::to_string(call.status);
          const nghttp2_nv trailer = field("grpc-status", status);
          nghttp2_submit_trailer(session, id, &trailer, 1);
        }
      } else if (size == 0) {
        return NGHTTP2_ERR_DEFERRED;
      }
    }
    return static_cast<ssize_t>(size);
  }

  static nghttp2_session_callbacks* all() {
    nghttp2_session_callbacks* made = nullptr;
    if (nghttp2_session_callbacks_new(&made) != 0) std::abort();
    nghttp2_session_callbacks_set_on_begin_headers_callback(made, begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(made, header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, closed);
    return made;
  }
};

GrpcConnection::GrpcConnection(int fd, const Settings& settings)
    : Served(fd),
      settings_(settings),
      plain_("{\"name\":\"" + settings.name + "\",\"version\":\"1.0.0\"}\n") {
  static nghttp2_session_callbacks* const callbacks = GrpcCallbacks::all();
  nghttp2_option* option = nullptr;
  if (nghttp2_option_new(&option) != 0) std::abort();
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_session_server_new2(&session_, callbacks, this, option);
  nghttp2_option_del(option);
  const nghttp2_settings_entry window{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &window, 1);
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
  flush();
}

GrpcConnection::~GrpcConnection() {
  nghttp2_session_del(session_);
}

std::uint32_t GrpcConnection::wanted_events() const {
  std::uint32_t events = 0;
  if (unsent() < kHighWater) events |= EPOLLIN;
  if (unsent() > 0) events |= EPOLLOUT;
  return events;
}

bool GrpcConnection::on_events(std::uint32_t events, std::uint64_t) {
  if ((events & EPOLLERR) != 0) return false;
  if ((events & (EPOLLIN | EPOLLHUP)) != 0 && !read_some()) return false;
  if (!flush()) return false;
  return unsent() > 0 || nghttp2_session_want_read(session_) != 0;
}

bool GrpcConnection::read_some() {
  thread_local std::array<std::uint8_t, kReadSize> room;
  while (unsent() < kHighWater) {
    const ssize_t got = ::recv(fd_, room.data(), room.size(), 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    const auto size = static_cast<std::size_t>(got);
    if (nghttp2_session_mem_recv(session_, room.data(), size) != got) return false;
    if (size < room.size()) return true;
  }
  return true;
}

// Packs what the session has to say and sends what the kernel takes. False when the peer is gone.
bool GrpcConnection::flush() {
  for (;;) {
    const std::uint8_t* frames = nullptr;
    while (unsent() < kHighWater) {
      const ssize_t size = nghttp2_session_mem_send(session_, &frames);
      if (size < 0) return false;
      if (size == 0) break;
      out_.append(reinterpret_cast<const char*>(frames), static_cast<std::size_t>(size));
    }
    if (unsent() == 0) return true;
    const ssize_t sent = ::send(fd_, out_.data() + out_at_, unsent(), MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    out_at_ += static_cast<std::size_t>(sent);
    if (unsent() == 0) {
      out_.clear();
      out_at_ = 0;
    }
  }
}

void GrpcConnection::take_body(Call& call, std::string_view bytes) {
  nghttp2_session_consume_connection(session_, bytes.size());
  if (call.out.size() - call.out_at < kHighWater) {
    nghttp2_session_consume_stream(session_, call.id, bytes.size());
  } else {
    call.owed += bytes.size();
  }
  if (!call.grpc || call.finished) return;
  call.in += bytes;
  take_messages(call);
}

void GrpcConnection::take_messages(Call& call) {
  std::size_t at = 0;
  while (!call.finished && call.in.size() - at >= kPrefix) {
    std::size_t size = 0;
    for (std::size_t i = 1; i < kPrefix; ++i) {
      size = size << 8 | static_cast<unsigned char>(call.in[at + i]);
    }
    if (size > kMaxMessage) {
      finish(call, kResourceExhausted);
      break;
    }
    if (call.in.size() - at < kPrefix + size) break;
    on_message(call, std::string_view(call.in).substr(at, kPrefix + size));
    at += kPrefix + size;
  }
  call.in.erase(0, at);
}

void GrpcConnection::end_request(Call& call) {
  call.request_ended = true;
  if (!call.finished) answer(call);
}

void GrpcConnection::finish(Call& call, unsigned status) {
  call.status = status;
  call.finished = true;
  send(call);
}

void GrpcConnection::send(Call& call) {
  if (call.begun) {
    nghttp2_session_resume_data(session_, call.id);
    return;
  }
  call.begun = true;
  nghttp2_data_provider body{};
  body.source.ptr = &call;
  body.read_callback = GrpcCallbacks::read;
  const std::string number =
      call.grpc ? std::to_string(call.status) : std::to_string(call.out.size());
  std::array<nghttp2_nv, 4> fields;
  std::size_t count = 0;
  fields[count++] = field(":status", "200");
  fields[count++] = field("content-type", call.grpc ? "application/grpc" : "application/json");
  if (!call.encoding.empty()) fields[count++] = field("grpc-encoding", call.encoding);
  const bool trailers_only = call.grpc && call.finished && call.out.empty();
  // A call that sends messages has its status in the trailers alone.
  if (!call.grpc) fields[count++] = field("content-length", number);
  if (trailers_only) fields[count++] = field("grpc-status", number);
  nghttp2_submit_response(session_, call.id, fields.data(), count, trailers_only ? nullptr : &body);
}

}  // namespace test_service
