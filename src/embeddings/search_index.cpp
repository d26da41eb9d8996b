#include "embeddings/search_index.h"

#include <charconv>
#include <cstring>

#include "io/directory.h"
#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

constexpr const char* kDatabaseFile = "index.sqlite";
constexpr const char* kGraphFile = "graph.hnsw";
constexpr std::size_t kMostDimensions = 1 << 16;

constexpr const char* kSchema = R"(
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, stamp TEXT NOT NULL);
CREATE TABLE passages(id INTEGER PRIMARY KEY, document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
                      position INTEGER NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL);
CREATE INDEX passages_of_document ON passages(document);)";

std::filesystem::path made(const std::filesystem::path& directory) {
  make_directory(directory);
  return directory;
}

}  // namespace

SearchIndex::SearchIndex(std::filesystem::path directory, bool create)
    : directory_(create ? made(directory) : directory), database_(directory_ / kDatabaseFile, create) {}

SearchIndex SearchIndex::create(const std::filesystem::path& directory, const std::string& model,
                                std::size_t dimensions) {
  SearchIndex out(directory, true);
  Database::Transaction transaction(out.database_);
  auto tables = out.database_.prepare("SELECT count(*) FROM sqlite_master");
  tables.step();
  if (tables.integer(0) != 0)
    throw Error(ErrorCode::invalid_argument,
                quote_path(directory) + ": holds an index already; use index add, or remove the directory");
  tables.step();
  out.database_.execute(kSchema);
  out.set_meta("model", model);
  out.set_meta("dimensions", std::to_string(dimensions));
  out.set_meta("generation", "0");
  out.set_meta("unfinished",
               "1");  // in this transaction: a crash before begin_update() is an unfinished build too
  transaction.commit();
  out.model_ = model;
  out.dimensions_ = dimensions;
  return out;
}

SearchIndex SearchIndex::open(const std::filesystem::path& directory) {
  SearchIndex out(directory, false);
  auto tables = out.database_.prepare(
      "SELECT count(*) FROM sqlite_master WHERE name IN ('meta', 'documents', 'passages')");
  tables.step();
  if (tables.integer(0) != 3)
    throw Error(ErrorCode::malformed_file,
                quote_path(directory / kDatabaseFile) + ": holds no index; build it anew");
  out.model_ = out.meta("model");
  const std::string dimensions = out.meta("dimensions");
  const auto parsed =
      std::from_chars(dimensions.data(), dimensions.data() + dimensions.size(), out.dimensions_);
  if (parsed.ec != std::errc() || out.dimensions_ == 0 || out.dimensions_ > kMostDimensions)
    throw Error(ErrorCode::malformed_file,
                quote_path(directory / kDatabaseFile) + ": dimensions: is no size; build it anew");
  return out;
}

std::string SearchIndex::meta(std::string_view key) const {
  auto row = database_.prepare("SELECT value FROM meta WHERE key = ?");
  return row.bind(1, key).step() ? std::string(row.text(0)) : std::string();
}

void SearchIndex::set_meta(std::string_view key, std::string_view value) const {
  database_.prepare("INSERT OR REPLACE INTO meta VALUES(?, ?)").bind(1, key).bind(2, value).run();
}

std::int64_t SearchIndex::passages() const {
  auto row = database_.prepare("SELECT count(*) FROM passages");
  row.step();
  return row.integer(0);
}

bool SearchIndex::holds(std::string_view document, std::string_view stamp) const {
  auto row = database_.prepare("SELECT 1 FROM documents WHERE path = ? AND stamp = ?");
  return row.bind(1, document).bind(2, stamp).step();
}

void SearchIndex::add(std::string_view document, std::string_view stamp,
                      std::span<const std::string> passages, std::span<const float> vectors) {
  if (vectors.size() != passages.size() * dimensions_)
    throw Error(ErrorCode::invalid_argument,
                "the index takes vectors of " + std::to_string(dimensions_) + " values, one a passage");
  Database::Transaction transaction(database_);
  database_.prepare("DELETE FROM documents WHERE path = ?").bind(1, document).run();
  database_.prepare("INSERT INTO documents(path, stamp) VALUES(?, ?)").bind(1, document).bind(2, stamp).run();
  const std::int64_t id = database_.last_id();
  auto insert =
      database_.prepare("INSERT INTO passages(document, position, text, vector) VALUES(?, ?, ?, ?)");
  for (std::size_t i = 0; i < passages.size(); ++i)
    insert.bind(1, id)
        .bind(2, static_cast<std::int64_t>(i))
        .bind(3, passages[i])
        .bind(4, std::as_bytes(vectors.subspan(i * dimensions_, dimensions_)))
        .run();
  database_.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'");
  transaction.commit();
  graph_.reset();
}

void SearchIndex::begin_update() { set_meta("unfinished", "1"); }
void SearchIndex::end_update() {
  graph();
  set_meta("unfinished", "0");
}
bool SearchIndex::unfinished() const { return meta("unfinished") == "1"; }

VectorGraph SearchIndex::build_graph() const {
  VectorGraph out(dimensions_, static_cast<std::size_t>(passages()));
  std::vector<float> vector(dimensions_);
  auto row = database_.prepare("SELECT id, vector FROM passages ORDER BY id");
  while (row.step()) {
    const auto blob = row.blob(1);
    if (blob.size() != dimensions_ * sizeof(float))
      throw Error(ErrorCode::malformed_file,
                  quote_path(directory_ / kDatabaseFile) + ": passage " + std::to_string(row.integer(0)) +
                      " has a vector of " + std::to_string(blob.size()) + " bytes instead of " +
                      std::to_string(dimensions_ * sizeof(float)) + "; build it anew");
    std::memcpy(vector.data(), blob.data(), blob.size());
    out.add(row.integer(0), vector);
  }
  return out;
}

VectorGraph& SearchIndex::graph() {
  if (graph_) return *graph_;
  const std::string generation = meta("generation");
  if (meta("graph_generation") == generation) {
    try {
      return graph_.emplace(VectorGraph::load(directory_ / kGraphFile, dimensions_, meta("graph_checksum")));
    } catch (const Error&) {
      // Missing or damaged: everything in it is in the database too.
    }
  }
  graph_.emplace(build_graph());
  const std::string checksum = graph_->save(directory_ / kGraphFile);
  Database::Transaction transaction(database_);
  set_meta("graph_checksum", checksum);
  set_meta("graph_generation", generation);
  transaction.commit();
  return *graph_;
}

std::vector<FoundPassage> SearchIndex::find(std::span<const float> vector, std::size_t k) {
  if (vector.size() != dimensions_)
    throw Error(ErrorCode::invalid_argument, quote_path(directory_) + ": holds vectors of " +
                                                 std::to_string(dimensions_) + " values, the query has " +
                                                 std::to_string(vector.size()) +
                                                 "; use the model it was built with");
  auto row = database_.prepare(
      "SELECT path, position, text FROM passages JOIN documents ON documents.id = document WHERE passages.id "
      "= ?");
  std::vector<FoundPassage> out;
  for (const Neighbour& n : graph().nearest(vector, k)) {
    if (!row.bind(1, n.id).step()) continue;
    out.push_back({std::string(row.text(0)), row.integer(1), std::string(row.text(2)), n.cosine});
    row.step();
  }
  return out;
}

}  // namespace metal_candle
