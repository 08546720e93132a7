// llhttp behind one function. Its state after a start line is kept once and copied for each head,
// so it never sees ours: the start line's rules (all registered methods, versions) are stricter.
// Not incremental: a head is contiguous by the time it is read.
#include "proxy/http1/fields.h"

#include <llhttp.h>

#include <string_view>

#include "proxy/http/framing.h"
#include "proxy/http/text.h"

#ifdef HOPLITE_LLHTTP_SSE42
extern "C" {
void sse42_llhttp_init(llhttp_t*, llhttp_type_t, const llhttp_settings_t*);
llhttp_errno_t sse42_llhttp_execute(llhttp_t*, const char*, size_t);
}
#endif

namespace proxy::http1 {
namespace {

using http::Fault;

struct Reading {
  http::HeaderMap& headers;
  const char* base;
  std::size_t limit;
  bool pending = false;
  bool complete = false;
  Fault fault = Fault::none;
  http::Text name;
  http::Text value;

  http::Text text(const char* at, std::size_t length) const noexcept {
    return {static_cast<std::uint32_t>(at - base), static_cast<std::uint32_t>(length)};
  }
  bool push() noexcept {
    if (!pending) return true;
    pending = false;
    if (headers.fields().size() >= limit) {
      fault = Fault::too_many_headers;
      return false;
    }
    const std::string_view trimmed = http::trim_ows(headers.view(value));
    value = text(value.length == 0 ? base + value.offset : trimmed.data(), trimmed.size());
    headers.add_in_place(http::find_name(headers.view(name)), name, value);
    return true;
  }
};

Reading& reading_of(llhttp_t* parser) noexcept {
  return *static_cast<Reading*>(parser->data);
}

int on_field(llhttp_t* parser, const char* at, std::size_t length) noexcept {
  if (parser->data == nullptr) return 0;
  Reading& reading = reading_of(parser);
  if (!reading.push()) return -1;
  // llhttp 8.1 lets a space stand before the colon.
  if (length == 0 || at[length] != ':' || !http::is_token({at, length})) return -1;
  reading.pending = true;
  reading.name = reading.text(at, length);
  reading.value = reading.text(at + length + 1, 0);
  return 0;
}

int on_value(llhttp_t* parser, const char* at, std::size_t length) noexcept {
  Reading& reading = reading_of(parser);
  if (reading.value.length == 0) {
    reading.value = reading.text(at, length);
  } else {
    reading.value.length = reading.text(at + length, 0).offset - reading.value.offset;
  }
  return 0;
}

int on_complete(llhttp_t* parser) noexcept {
  Reading& reading = reading_of(parser);
  reading.complete = reading.push();
  return HPE_PAUSED;  // bodies are not llhttp's business here
}

// The two builds of llhttp, and a parser of each kind that has just read a start line.
struct Machine {
  llhttp_settings_t settings;
  llhttp_t after_start_line[2];
  llhttp_errno_t (*execute)(llhttp_t*, const char*, size_t) = &llhttp_execute;

  Machine() noexcept {
    llhttp_settings_init(&settings);
    settings.on_header_field = &on_field;
    settings.on_header_value = &on_value;
    settings.on_headers_complete = &on_complete;
    auto* init = &llhttp_init;
#ifdef HOPLITE_LLHTTP_SSE42
    if (__builtin_cpu_supports("sse4.2")) {
      init = &sse42_llhttp_init;
      execute = &sse42_llhttp_execute;
    }
#endif
    constexpr std::string_view kRequest = "GET / HTTP/1.1\r\n";
    constexpr std::string_view kResponse = "HTTP/1.1 200 OK\r\n";
    init(&after_start_line[0], HTTP_REQUEST, &settings);
    execute(&after_start_line[0], kRequest.data(), kRequest.size());
    init(&after_start_line[1], HTTP_RESPONSE, &settings);
    execute(&after_start_line[1], kResponse.data(), kResponse.size());
  }
};

const Machine& machine() noexcept {
  static const Machine made;
  return made;
}

Fault fault_of_name(std::string_view line) noexcept {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return Fault::missing_colon;
  const std::string_view name = line.substr(0, colon);
  if (name.empty()) return Fault::empty_header_name;
  if (http::is_token(name)) return Fault::none;
  const bool space = name.back() == ' ' || name.back() == '\t';
  return space && http::is_token(http::trim_ows(name)) ? Fault::space_before_colon
                                                       : Fault::invalid_header_name;
}

// Why llhttp stopped, in our words: it reads names, and values that say where a body ends. The
// fields it has read are in `headers` already, one for each line.
Fault explain(http::HeaderMap& headers, std::size_t offset, std::size_t limit) noexcept {
  std::string_view lines = std::string_view(headers.block()).substr(offset);
  for (std::size_t line = 0; !lines.starts_with("\r\n") && line < limit; ++line) {
    const std::string_view text = lines.substr(0, lines.find('\r'));
    lines.remove_prefix(text.size() + 2);
    if (line < headers.fields().size()) continue;
    if (const Fault fault = fault_of_name(text); fault != Fault::none) return fault;
    const std::string_view name = text.substr(0, text.find(':'));
    const std::string_view value = http::trim_ows(text.substr(name.size() + 1));
    const char* base = headers.block().data();
    headers.add_in_place(
        http::find_name(name),
        {static_cast<std::uint32_t>(name.data() - base), static_cast<std::uint32_t>(name.size())},
        {static_cast<std::uint32_t>(value.data() - base),
         static_cast<std::uint32_t>(value.size())});
  }
  const Fault fault = http::read_framing(headers, http::Version::http11).fault;
  return fault != Fault::none ? fault : Fault::invalid_header;
}

}  // namespace

Fault read_fields(MessageKind kind, http::HeaderMap& headers, std::size_t offset,
                  std::size_t limit) noexcept {
  const std::string& block = headers.block();
  if (std::string_view(block).substr(offset) == "\r\n") return Fault::none;
  Reading reading{
      .headers = headers, .base = block.data(), .limit = limit, .name = {}, .value = {}};
  const Machine& ready = machine();
  llhttp_t parser = ready.after_start_line[kind == MessageKind::request ? 0 : 1];
  parser.data = &reading;
  ready.execute(&parser, block.data() + offset, block.size() - offset);
  if (reading.complete) return Fault::none;
  return reading.fault != Fault::none ? reading.fault : explain(headers, offset, limit);
}

}  // namespace proxy::http1
