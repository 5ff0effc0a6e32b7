// The one exception of the native code, twin of FSVideoError in lib/errors.ts: the binding copies code,
// message and the details over field by field. Everything in csrc throws this and nothing else; abort is no
// error and not here.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace fsv {

/// The stable codes that native code throws; the full list with its meaning stands in lib/errors.ts.
namespace code {
inline constexpr const char* kInvalidArgument = "ERR_FSVIDEO_INVALID_ARGUMENT";
inline constexpr const char* kModelFile = "ERR_FSVIDEO_MODEL_FILE";
inline constexpr const char* kNoDevice = "ERR_FSVIDEO_NO_DEVICE";
inline constexpr const char* kUnsupportedDevice = "ERR_FSVIDEO_UNSUPPORTED_DEVICE";
inline constexpr const char* kOutOfMemory = "ERR_FSVIDEO_OUT_OF_MEMORY";
inline constexpr const char* kNonFinite = "ERR_FSVIDEO_NON_FINITE";
inline constexpr const char* kDisposed = "ERR_FSVIDEO_DISPOSED";
inline constexpr const char* kDeviceLost = "ERR_FSVIDEO_DEVICE_LOST";
inline constexpr const char* kInternal = "ERR_FSVIDEO_INTERNAL";
}  // namespace code

/// A failure with a stable code. Empty strings and negative byte counts mean "not given".
struct Error : std::runtime_error {
  std::string code;        ///< one of fsv::code
  std::string field;       ///< dotted name of the offending value, e.g. "linear.weight"
  std::string got;         ///< what was given, in words
  std::string expected;    ///< what is allowed, in words
  int64_t needed = -1;     ///< bytes
  int64_t available = -1;  ///< bytes

  Error(std::string code, const std::string& message) : std::runtime_error(message), code(std::move(code)) {}
};

/// All parts written one after the other: text("[", rows, ", ", cols, "]").
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

/// `<field> must be <expected>, got <got>`: an argument of an op that is not as its contract says.
inline Error invalid_argument(std::string field, std::string got, std::string expected) {
  Error error(code::kInvalidArgument, text(field, " must be ", expected, ", got ", got));
  error.field = std::move(field);
  error.got = std::move(got);
  error.expected = std::move(expected);
  return error;
}

/// A weight file that is not as it must be. The parts are the whole message and name the file themselves.
template <class... Parts>
Error model_file(std::string field, const Parts&... message) {
  Error error(code::kModelFile, text(message...));
  error.field = std::move(field);
  return error;
}

/// `<path>: <field> must be <expected>, got <got>`, the usual shape of a refused weight file.
inline Error invalid_model_file(const std::string& path, const std::string& field, std::string got,
                                std::string expected) {
  Error error = model_file(field, path, ": ", field, " must be ", expected, ", got ", got);
  error.got = std::move(got);
  error.expected = std::move(expected);
  return error;
}

/// More memory asked for than there is; both in bytes, `available` negative where nobody can tell.
inline Error out_of_memory(int64_t needed, int64_t available) {
  Error error(code::kOutOfMemory,
              available < 0 ? text("out of memory: ", needed, " bytes needed")
                            : text("out of memory: ", needed, " bytes needed, ", available, " available"));
  error.needed = needed;
  error.available = available;
  return error;
}

}  // namespace fsv
