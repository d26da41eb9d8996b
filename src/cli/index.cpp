// The verb index: semantic search over a folder of texts.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/embedding_flags.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "embeddings/search_index.h"
#include "io/mapped_file.h"
#include "tokenizer/unicode.h"

namespace metal_candle::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFooter =
    R"(Texts are cut into passages at blank lines, long ones at a word near 1,000 bytes. The index is a directory;
its documents and vectors live in SQLite, so that a build that is killed loses nothing: index add goes on where it
ended. Unchanged files are skipped.

Examples:
  metal-candle index build -m all-MiniLM-L6-v2 --index notes.index ~/notes
  metal-candle index add --index notes.index ~/notes       after files changed
  metal-candle index query --index notes.index "how do bees make honey?")";

constexpr std::size_t kPassageBytes = 1000;

struct Flags {
  EmbeddingFlags model;
  std::string index, folder, query;
  std::size_t top = 5;
};

/// Where the first blank line begins, in either convention of line ends; the text's size if there is none.
std::size_t blank_line(std::string_view text) {
  return std::min({text.size(), text.find("\n\n"), text.find("\n\r\n")});
}

/// The text's paragraphs; overlong ones in pieces that end at a space where there is one.
std::vector<std::string> passages_of(std::string_view text) {
  std::vector<std::string> out;
  const auto add = [&](std::string_view piece) {
    const std::size_t begin = piece.find_first_not_of(" \t\r\n");
    if (begin != std::string_view::npos)
      out.emplace_back(piece.substr(begin, piece.find_last_not_of(" \t\r\n") + 1 - begin));
  };
  while (!text.empty()) {
    std::size_t end = blank_line(text);
    if (end > kPassageBytes) {
      const std::size_t space = text.substr(0, kPassageBytes).find_last_of(" \n");
      end = space == std::string_view::npos || space == 0 ? kPassageBytes : space;
      while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;  // whole characters
    }
    add(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), std::max<std::size_t>(end, 1)));
    const std::size_t next = text.find_first_not_of("\r\n");
    text.remove_prefix(next == std::string_view::npos ? text.size() : next);
  }
  return out;
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::error_code failed;
  if (!fs::exists(folder, failed))
    throw Error(ErrorCode::not_found, folder.string() + ": there is no such file or folder");
  if (!fs::is_directory(folder)) return {folder};
  std::vector<fs::path> out;
  for (const auto& entry :
       fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied))
    if (entry.is_regular_file() && !entry.path().filename().string().starts_with('.'))
      out.push_back(entry.path());
  std::ranges::sort(out);
  return out;
}

std::string stamp_of(const fs::path& file) {
  return std::to_string(fs::file_size(file)) + " " +
         std::to_string(fs::last_write_time(file).time_since_epoch().count());
}

void add_files(SearchIndex& index, const EmbeddingModel& model, const fs::path& folder) {
  if (model.dimensions() != index.dimensions())
    throw Error(ErrorCode::invalid_argument,
                "the index holds vectors of " + std::to_string(index.dimensions()) +
                    " values, the model makes " + std::to_string(model.dimensions()) +
                    "; use the model it was built with");
  EmbedOptions options;
  options.normalize = true;
  if (model.prompts().contains("passage")) options.prompt_name = "passage";
  const std::vector<fs::path> files = files_below(folder);
  ProgressBar bar("indexing");
  std::size_t done = 0, added = 0, skipped = 0;
  index.begin_update();
  for (const fs::path& file : files) {
    bar.show(static_cast<double>(done++) / static_cast<double>(files.size()));
    const std::string name = fs::absolute(file).lexically_normal(), stamp = stamp_of(file);
    if (fs::file_size(file) == 0 || index.holds(name, stamp)) continue;
    const MappedFile content = MappedFile::open(file);
    const std::string_view text(reinterpret_cast<const char*>(content.bytes().data()),
                                content.bytes().size());
    if (text.find('\0') != std::string_view::npos || find_invalid_utf8(text) != text.size()) {
      ++skipped;
      continue;
    }
    const std::vector<std::string> passages = passages_of(text);
    std::vector<float> vectors;
    if (!passages.empty()) vectors = model.embed(std::span<const std::string>(passages), options).values;
    index.add(name, stamp, passages, vectors);
    ++added;
  }
  index.end_update();
  say(std::to_string(added) + " files indexed, " + std::to_string(index.passages()) + " passages in all" +
      (skipped > 0 ? "; " + std::to_string(skipped) + " are not UTF-8 text" : ""));
}

void build(const Flags& flags) {
  const auto model = flags.model.load();
  files_below(flags.folder);  // before anything is written
  const std::string path =
      fs::exists(flags.model.model) ? fs::absolute(flags.model.model).string() : flags.model.model;
  SearchIndex index = SearchIndex::create(flags.index, path, model->dimensions());
  add_files(index, *model, flags.folder);
}

std::shared_ptr<EmbeddingModel> model_of(const Flags& flags, const SearchIndex& index) {
  EmbeddingFlags model = flags.model;
  if (model.model.empty()) model.model = index.model();
  return model.load();
}

void add(const Flags& flags) {
  SearchIndex index = SearchIndex::open(flags.index);
  add_files(index, *model_of(flags, index), flags.folder);
}

void query(const Flags& flags) {
  SearchIndex index = SearchIndex::open(flags.index);
  if (index.unfinished())
    throw Error(ErrorCode::invalid_argument,
                flags.index + ": the last build was interrupted; finish it with index add (" +
                    std::to_string(index.passages()) + " passages are kept)");
  const auto model = model_of(flags, index);
  EmbedOptions options;
  options.normalize = true;
  if (model->prompts().contains("query")) options.prompt_name = "query";
  for (const FoundPassage& found : index.find(model->embed(flags.query, options), flags.top))
    write_json_line({{"score", number(found.cosine)},
                     {"file", found.document},
                     {"passage", found.position},
                     {"text", found.text}});
}

}  // namespace

void add_index(CLI::App& program) {
  const auto flags = std::make_shared<Flags>();
  CLI::App* app = program.add_subcommand("index", "Search a folder of texts by meaning: build, add, query");
  app->footer(kFooter);
  app->require_subcommand(1);
  const auto subcommand = [&](const char* name, const char* help, bool model_required) {
    CLI::App* sub = app->add_subcommand(name, help);
    sub->add_option("--index", flags->index, "The index's directory")->required()->type_name("DIR");
    flags->model.add_to(*sub, model_required);
    return sub;
  };
  CLI::App* built = subcommand("build", "Make an index of a folder", true);
  CLI::App* added = subcommand("add", "Bring an index up to date, or add another folder", false);
  CLI::App* asked = subcommand("query", "Print the passages nearest to a text, best first", false);
  for (CLI::App* sub : {built, added})
    sub->add_option("FOLDER", flags->folder, "Folder or file of texts")->required()->type_name("");
  asked->add_option("QUERY", flags->query, "What to look for")->required()->type_name("");
  asked->add_option("--top", flags->top, "Passages to print (default: 5)")
      ->check(count_from(1))
      ->type_name("N");
  built->callback([flags] { build(*flags); });
  added->callback([flags] { add(*flags); });
  asked->callback([flags] { query(*flags); });
}

}  // namespace metal_candle::cli
