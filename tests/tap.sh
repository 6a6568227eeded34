# What the test scripts share: where the tools are, a fresh folder to work in, and results in TAP. Sourced by bash.
# SPDX-License-Identifier: Apache-2.0
# SD_TOOLS is the folder of the tools to be tested; without it, the build folder beside tests/.
set -u -o pipefail
export LC_ALL=C
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$tests")
SD_TOOLS=$(cd "${SD_TOOLS:-$top/build}" 2>&1 && pwd) || { echo "Bail out! no folder of tools: $SD_TOOLS (build first, or set SD_TOOLS)"; exit 99; }
PATH=$SD_TOOLS:$PATH
work=$(mktemp -d "${TMPDIR:-/tmp}/sd-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
count=0 failed=0
numbers=$(seq 5000)

# ok NAME, not_ok NAME [WHY]: one result. WHY may have several lines.
ok() {
	count=$((count + 1))
	echo "ok $count - $1"
}

not_ok() {
	count=$((count + 1)) failed=$((failed + 1))
	echo "not ok $count - $1"
	[ -z "${2-}" ] || sed 's/^/#   /' <<<"$2"
}

skip() {
	count=$((count + 1))
	echo "ok $count - $1 # SKIP $2"
}

# check NAME COMMAND...: passes if the command does; what it printed is the reason where it does not.
check() {
	local name=$1 said
	shift
	if said=$("$@" 2>&1); then ok "$name"; else not_ok "$name" "$said"; fi
}

# same A B: two files of the same bytes.
same() {
	cmp -- "$1" "$2"
}

# ... | ls_all [OPTION..]: sd-ls of all that comes. sd-ls itself stops at the end of the names: then the program before it
# may fail for want of a reader.
ls_all() { cat >"$work/.listed" && sd-ls "$@" "$work/.listed"; }

# The end of every test script.
finish() {
	echo "1..$count"
	echo "# $((count - failed)) passed, $failed failed"
	[ "$failed" = 0 ]
	exit
}

# safetensors FILE NAME DTYPE SHAPE BYTES: a file with one tensor, made without any of the tools. SHAPE is as in "2,3". The data
# are numbers in text, again and again: 23893 bytes, so that no two pieces of a tensor are the same that might be mistaken.
safetensors() {
	local header="{\"$2\":{\"dtype\":\"$3\",\"shape\":[$4],\"data_offsets\":[0,$5]}}"
	while [ $((${#header} % 8)) != 0 ]; do header+=' '; done
	{
		printf "\\x$(printf %02x $((${#header} % 256)))\\x$(printf %02x $((${#header} / 256)))\0\0\0\0\0\0%s" "$header"
		head -c "$5" < <(yes "$numbers" 2>/dev/null)
	} >"$1"
}

# one_line FILE: what stderr must be after a failure.
one_line() {
	[ "$(wc -l <"$1")" = 1 ] || { echo "stderr is not one line:"; cat "$1"; return 1; }
}
