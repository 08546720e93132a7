// SessionMemory: what nghttp2 allocates for streams and frames, from free lists of the thread.
// Not for our own objects: those have pools of their own; not for message bytes: chunks hold them.
#pragma once

#include <nghttp2/nghttp2.h>

namespace proxy::http2 {

// The allocator to make a session with. Its lists belong to the calling thread, so a session is
// made, used and ended on one thread, as everything of a worker is. nghttp2 asks about nine times a
// request; a small block that it gives back is handed out again without a look at the heap, what is
// kept is at most kKeptBytes a size, and large blocks are the heap's. The pointer is valid as long
// as the thread lives.
nghttp2_mem* session_memory() noexcept;

}  // namespace proxy::http2
