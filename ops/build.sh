# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The release binaries. They are linked statically, so that the same files run
# as plain processes here and in images made of nothing else. Sourced.

PROGRAMS=(config-publisher runtime-collector retry host-agent dvsctl)

triple() { rustc -vV | sed -n 's/^host: //p'; }

# binaries: the folder that they are in.
binaries() { echo "${CARGO_TARGET_DIR:-$ROOT/target}/$(triple)/release"; }

# build_binaries: builds what is stale.
build_binaries() {
    # `--target` keeps the flag away from build scripts and procedural macros,
    # which can't be static, and its results apart from those of plain builds.
    local -x RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
    local command=(cargo build --release --locked --target "$(triple)")
    local program
    for program in "${PROGRAMS[@]}"; do command+=(-p "$program"); done
    (
        cd "$ROOT" || exit
        # On a terminal cargo has the better progress bar.
        if [[ -t 2 ]]; then "${command[@]}"; else quietly "$LOGS/build" "${command[@]}"; fi
    )
}
