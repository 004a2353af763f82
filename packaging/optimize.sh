#!/usr/bin/env bash
# Builds the program as it is shipped: a release build that knows which of its code is hot, because an instrumented
# build of the same sources has run the workloads of the benchmarks first (profile-guided optimisation).
#
# The folder `optimized` where cargo builds (target, or CARGO_TARGET_DIR) gets
#   hawser           the program
#   hawser.profdata  what was learned, for this compiler and these sources alone
#   instrumented/    the build that learns, and
#   trained/         the build that knows: apart, so that neither outdates what `cargo build --release` made
# What is up to date there is not made again. A compiler that cannot be helped gives the plain release build.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
folder=$target/optimized
profile=$folder/hawser.profdata
cargo=${CARGO:-cargo}
rustc=${RUSTC:-rustc}

about=$("$rustc" -vV)
host=$(sed -n 's/^host: //p' <<<"$about")
llvm=$(sed -n 's/^LLVM version: \([0-9]*\).*/\1/p' <<<"$about")
library=$("$rustc" --print sysroot)/lib/rustlib/$host
instrumented=$folder/instrumented/$host/release/hawser
trained=$folder/trained/$host/release/hawser

# Prints the llvm-profdata that reads what this compiler's programs write: its own, or one of its LLVM version or later.
find_profdata() {
	local program version
	for program in "$library/bin/llvm-profdata" "llvm-profdata-$llvm"; do
		command -v "$program" && return
	done
	version=$(llvm-profdata --version 2>/dev/null | sed -n 's/.*LLVM version \([0-9]*\).*/\1/p')
	[ "${version:-0}" -ge "$llvm" ] && command -v llvm-profdata
}

# Either may be impossible here; whether it helped shows when the program is looked for again.
install_profdata() {
	rustup component add llvm-tools >/dev/null 2>&1 || true
	find_profdata >/dev/null && return
	if command -v apt-get >/dev/null; then
		local sudo=
		[ "$(id -u)" = 0 ] || sudo=sudo
		{ $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq \
			--no-install-recommends "llvm-$llvm"; } >/dev/null 2>&1 || true
	fi
}

# Builds into the folder $1 with the compiler's option $2. A target that is named keeps the option away from build
# scripts and macros, which run on this machine and are not to be measured.
build() {
	RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }$2" \
		"$cargo" build --release -p hawser --locked --target "$host" --target-dir "$folder/$1"
}

# Runs the workloads through the instrumented program. All of them: in a function that runs, a branch that is never
# taken is made cold. What none of them calls is not in a sparse profile, and is compiled as in any release build.
train() {
	local raw
	raw=$(mktemp -d)
	# shellcheck disable=SC2064
	trap "rm -rf '$raw'" EXIT
	# The program runs as an account that could not write here.
	chmod 1777 "$raw"
	"$cargo" build -p hawser-benches --bin bench --locked
	LLVM_PROFILE_FILE=$raw/%p.profraw "$cargo" run -q -p hawser-benches --bin bench --locked -- \
		--hawser "$instrumented" --peers hawser --rounds 1 --seconds 2 --out "$raw/out" \
		--workloads simple,extended,prepared,tpc-b,large-rows,pipeline,pipeline-prepared,connect,tls,paced >/dev/null
	"$profdata" merge --sparse -o "$profile.new" "$raw"/*.profraw
	mv "$profile.new" "$profile"
}

# A function, since bash would read on in a file that changes during the minutes of a build.
main() {
	profdata=$(find_profdata || { install_profdata; find_profdata; } || true)
	lacking=
	[ -n "$profdata" ] || lacking="llvm-profdata for LLVM $llvm (rustup component add llvm-tools)"
	compgen -G "$library/lib/libprofiler_builtins-*.rlib" >/dev/null || lacking="a compiler with profiler_builtins"
	if [ -n "$lacking" ]; then
		echo "optimize.sh: this is the plain release build; to train it needs $lacking" >&2
		"$cargo" build --release -p hawser --locked
		program=$target/release/hawser
	else
		build instrumented -Cprofile-generate
		if [ ! "$profile" -nt "$instrumented" ]; then
			# The path of the profile stays the same, so cargo would not notice that every crate has another one.
			rm -rf "$folder/trained"
			train
		fi
		build trained "-Cprofile-use=$profile"
		program=$trained
	fi
	install -D -m 755 "$program" "$folder/hawser"
}

main; exit
