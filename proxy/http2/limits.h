// Limits of what one HTTP/2 connection and its messages may look like, with their defaults.
// Not the deadlines of requests: those belong to exchanges.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "proxy/http2/observer.h"

namespace proxy::http2 {

// Of one message. Sizes are of the decoded fields: names, values and 4 bytes each ("name: value"
// and CRLF), as an HTTP/1 head would have them.
struct Limits {
  std::size_t head_bytes = std::size_t{60} * 1024;
  std::size_t header_count = 100;  // without pseudo-headers; the pieces of one Cookie count as one
  std::size_t trailer_bytes = 8 * 1024;
  unsigned informational = 32;  // 1xx responses before the final one
};

// A bucket: so many at once, and so many a second in the long run.
struct Rate {
  std::uint32_t burst = 0;
  std::uint32_t per_second = 0;
};

// What a peer may do before it is told ENHANCE_YOUR_CALM. Frames that carry a request on earn some
// of the cheap ones back (flood_guard.h).
struct FloodLimits {
  Rate resets{1500, 150};           // RST_STREAM received
  Rate provoked_resets{100, 20};    // RST_STREAM sent for the peer's own faults
  Rate refused_streams{2000, 200};  // REFUSED_STREAM sent
  Rate settings{100, 10};
  Rate pings{500, 50};
  Rate empty_data{200, 20};  // DATA without a byte and without END_STREAM
  Rate window_updates{2000, 500};
  Rate priorities{500, 50};              // PRIORITY and PRIORITY_UPDATE
  Rate goaways{10, 1};                   // a graceful end has two
  Rate extensions{500, 50};              // ALTSVC, ORIGIN, and frames of unknown types
  std::uint32_t frames_per_head = 32;    // HEADERS and its CONTINUATIONs
  std::size_t outbound_frames = 10'000;  // waiting to be sent, DATA not counted
};

struct SessionOptions {
  Limits limits;
  FloodLimits floods;
  // Body bytes out with a stream's user, and with all users of the connection, before the peer has
  // to wait: the windows we announce. 65,535 to 2^31-1.
  std::uint32_t stream_window = 64 * 1024;
  std::uint32_t connection_window = 1024 * 1024;
  // Streams at a time: of a client towards us (announced), of ours towards a server.
  std::uint32_t max_concurrent_streams = 1024;
  // Bytes handed to the transport that have not left yet; above it nothing more is framed.
  std::size_t output_bytes = 64 * 1024;
  // A PING when nothing was received for so long; 0 = none. Not answered within ping_timeout: the
  // connection is dead.
  std::chrono::milliseconds ping_interval{0};
  std::chrono::milliseconds ping_timeout{10'000};
  // Bytes wait for the peer's windows, or for its reading, and none left for so long: the stream
  // is reset, or the connection closed if it is all of it. 0 = for ever.
  std::chrono::milliseconds write_stall_timeout{60'000};
  // The peer must acknowledge our SETTINGS (which a connection that works does at once).
  std::chrono::milliseconds settings_timeout{30'000};
  // Closing: what still comes is thrown away, so that no RST overtakes the GOAWAY.
  std::chrono::milliseconds linger_timeout{1'000};
  std::size_t linger_bytes = 1024 * 1024;
  Observer* observer = &null_observer();  // not null
};

}  // namespace proxy::http2
