// Directories: made, listed, and what lies beside a checkpoint's weights taken along to another.
#pragma once

#include <filesystem>
#include <vector>

namespace metal_candle {

/// Makes a directory and those above it, if need be. Throws Error(invalid_argument) if a file is there,
/// Error(io_error), each naming it.
void make_directory(const std::filesystem::path& directory);

/// What is directly in it and no directory, in no order: links that lead nowhere too, for a name may be all
/// that is asked for. Throws Error(io_error) naming it.
std::vector<std::filesystem::path> files_in(const std::filesystem::path& directory);

/// Copies the configuration, tokenizer and chat template of a checkpoint (.json, .jinja, .txt, .model; no
/// index of shards) over what has their names, each whole or not at all. Throws as files_in(),
/// MappedFile::open and AtomicWriter do.
void copy_companions(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace metal_candle
