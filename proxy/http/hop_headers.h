// Hop-by-hop fields: what speaks to the next connection only, and is taken out before a message is
// passed on (RFC 9110 7.6.1).
// Not framing.h, which decides where a body ends; it must look before these fields are gone.
#pragma once

#include "proxy/http/fault.h"
#include "proxy/http/header_map.h"

namespace proxy::http {

// What the Connection fields and their companions said.
struct HopFacts {
  Fault fault = Fault::none;  // a Connection option is no token, or names Host or a framing field
  bool close = false;
  bool keep_alive = false;
  Text upgrade;  // value of Upgrade when Connection names it and it can be passed on; else empty
};

// Reads and removes Connection, what it names, Keep-Alive, Proxy-Connection, HTTP2-Settings,
// Upgrade, TE (but `TE: trailers` stays, in exactly that form) and Trailer's companions of framing:
// Transfer-Encoding, Content-Length and Host. `upgrade` stays valid: it points into the block.
// With a fault the map is left half done: the message must be refused.
HopFacts take_hop_headers(HeaderMap& headers);

// Removes from trailers all that a trailer section must not carry (RFC 9110 6.5.1): framing,
// routing, authentication, hop-by-hop and content fields.
void clean_trailers(HeaderMap& trailers) noexcept;

}  // namespace proxy::http
