// google::protobuf::Struct, safe to use under ThreadSanitizer. Include this, not struct.pb.h.
//
// protobuf's map_field.h gives its classes two more members when it sees gcc's ThreadSanitizer. The
// library was built without it, so that the layouts would differ and memory be corrupted.
#pragma once

#pragma push_macro("__SANITIZE_THREAD__")
#undef __SANITIZE_THREAD__
#include <google/protobuf/struct.pb.h>
#pragma pop_macro("__SANITIZE_THREAD__")
