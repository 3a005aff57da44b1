# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Shared by the scripts of images/: messages, the lock file of versions, and the build cache.
#
# A cache entry is a directory `<stage>-<key>` with the files of the stage and their SHA256SUMS.
# The key is the hash of the stage's inputs. An entry is checked by its sums before it is used,
# so a cache may be empty, stale, read-only or damaged; a miss only costs time. The cache
# functions use the variables `cache` (the directory), `tmp` (scratch) and `refresh` of images/build.
# shellcheck disable=SC2154

images_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf '%5ds  %-8s %s\n' "$SECONDS" "$1" "$2" >&2; }

die() {
	printf 'images: %s\n' "$*" >&2
	exit 1
}

# need PROGRAM PACKAGE...: fails with the package to install when a program is missing.
need() {
	command -v "$1" >/dev/null || die "'$1' is missing; install the package '${2:-$1}'"
}

# locked NAME: the value of NAME in versions.lock.
locked() {
	local value
	value=$(sed -n "s/^$1=//p" "$images_dir/versions.lock")
	[[ -n $value ]] || die "No '$1' in versions.lock"
	printf '%s\n' "$value"
}

# hash_of WORD|FILE...: one hash over words and over the content of files. Files of images/ count
# by content and mode only, so that the place of the checkout does not matter.
hash_of() {
	local item
	for item; do
		if [[ -f $item ]]; then
			printf 'file %s\n' "$(sha256sum <"$item")"
		else
			printf 'word %s\n' "$item"
		fi
	done | sha256sum | cut -c1-64
}

# hash_of_tree DIR: one hash over names, modes and contents below DIR.
hash_of_tree() {
	(
		cd "$1" || exit
		find . -type f -printf '%P %m\n' | LC_ALL=C sort
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
		find . -type l -printf '%P %l\n' | LC_ALL=C sort
	) | sha256sum | cut -c1-64
}

# debian_sources: the host's own sources of the pinned suite, as apt understands them, so that
# mirrors and proxies of the host are used. Empty on a host with another suite.
# shellcheck disable=SC2016
debian_sources() {
	apt-get indextargets --format '$(CODENAME) $(SIGNED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 'Origin: Debian' 'Architecture: amd64' 2>/dev/null |
		awk -v suite="$1" '$1 ~ "^" suite "(-updates|-security)?$" && $5 == "main" {
			key = $2 ~ /^\// ? "[signed-by=" $2 "] " : ""
			print "deb " key $3, $4, $5
		}' | sort -u
}

# cache_default: where the cache is when nothing was said. HOME may be unset.
cache_default() {
	if [[ -n ${EXECSANDBOX_CACHE:-} ]]; then
		printf '%s\n' "$EXECSANDBOX_CACHE"
	elif [[ $(id -u) == 0 ]]; then
		printf '/var/cache/execsandbox\n'
	elif [[ -n ${XDG_CACHE_HOME:-${HOME:-}} ]]; then
		printf '%s/execsandbox\n' "${XDG_CACHE_HOME:-$HOME/.cache}"
	else
		printf '%s/execsandbox-cache-%d\n' "${TMPDIR:-/tmp}" "$(id -u)"
	fi
}

# cache_fetch ENTRY DEST: copies a sound entry to DEST. A damaged one is deleted where possible.
cache_fetch() {
	local entry=$cache/$1
	[[ -f $entry/SHA256SUMS ]] || return 1
	mkdir -p "$2"
	if cp "$entry"/* "$2"/ 2>/dev/null &&
		(cd "$2" && sha256sum --check --strict --quiet SHA256SUMS >/dev/null 2>&1); then
		touch "$entry" 2>/dev/null || true
		return 0
	fi
	say cache "Entry '$1' is damaged, building again"
	rm -rf "$entry" 2>/dev/null || true
	find "$2" -mindepth 1 -delete
	return 1
}

# cache_store ENTRY SRC: puts the files of SRC into the cache by one rename, and drops entries of
# the same stage that nobody used for 30 days.
cache_store() {
	local temp stage=${1%%-*}
	(cd "$2" && sha256sum -- * >"$tmp/sums" && mv "$tmp/sums" SHA256SUMS)
	if ! temp=$(mktemp -d "$cache/.new-XXXXXX" 2>/dev/null); then
		say cache "'$cache' cannot be written, '$1' is not kept"
		return 0
	fi
	chmod 0755 "$temp"
	if cp "$2"/* "$temp"/ && rm -rf "${cache:?}/$1" && mv -T "$temp" "$cache/$1"; then
		find "$cache" -maxdepth 1 -name "$stage-*" -mtime +30 -exec rm -rf {} +
	else
		say cache "Cannot keep '$1' in '$cache'"
		rm -rf "$temp"
	fi
}

# cached STAGE KEY DEST COMMAND...: fills DEST from the cache, or by `COMMAND... DEST`. Two builds
# at once on one cache: the second waits for the first and then finds its entry.
cached() {
	local entry=$1-$2 stage=$1 dest=$3 lock
	shift 3
	mkdir -p "$dest"
	if { exec {lock}>>"$cache/.lock-$stage"; } 2>/dev/null; then
		flock "$lock"
	else
		lock=
	fi
	if [[ -z ${refresh:-} || $stage != base ]] && cache_fetch "$entry" "$dest"; then
		say "$stage" "From the cache (${entry:0:24})"
	else
		say "$stage" "Building (${entry:0:24})"
		"$@" "$dest"
		cache_store "$entry" "$dest"
		say "$stage" "Done"
	fi
	[[ -z $lock ]] || exec {lock}>&-
}
