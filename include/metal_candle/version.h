// The version of the library, as the file VERSION states it; semantic versioning.
#pragma once

namespace metal_candle {

inline constexpr char kVersion[] = "0.1.0";  ///< major.minor.patch
inline constexpr int kVersionMajor = 0;
inline constexpr int kVersionMinor = 1;
inline constexpr int kVersionPatch = 0;

}  // namespace metal_candle
