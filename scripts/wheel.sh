# Sourced by the scripts that need a file from a Python wheel. Python is the downloader only: nothing is
# installed into it and nothing of it is used at run time.

# fetch_wheel NAME VERSION SHA256 PLATFORM FOLDER: downloads one wheel, verified by pip against SHA256,
# and prints its path.
fetch_wheel() {
  local name=$1 version=$2 sha256=$3 platform=$4 folder=$5 wheels
  mkdir -p "$folder"
  printf '%s==%s --hash=sha256:%s\n' "$name" "$version" "$sha256" > "$folder/requirements.txt"
  python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --require-hashes \
    --only-binary=:all: --platform "$platform" --python-version 3.11 --implementation cp \
    --dest "$folder" --requirement "$folder/requirements.txt" >&2
  wheels=("$folder"/*.whl)
  echo "${wheels[0]}"
}
