# Shared by the scripts of this folder. Sourced, not run.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The folder of build results, as an absolute path.
target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)

# PROFILE=dev|release (default: the script's own) as cargo's argument and as its folder's name.
profile_dir() { if [ "$1" = dev ]; then echo debug; else echo "$1"; fi; }

fail() { echo "$0: $*" >&2; exit 1; }

# The newest version of the C library that a file for any processor asks for.
glibc_of() { readelf --version-info --wide "$1" | grep -oE 'GLIBC_[0-9.]+' | cut -d_ -f2 | sort -V | tail -1; }
