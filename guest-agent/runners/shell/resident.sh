# SPDX-License-Identifier: Apache-2.0
# Makes a bash the shell of a session: the module takes over and does not come back.
shopt -s expand_aliases
BASH_ARGV0=bash
enable -f "${BASH_SOURCE%/*}/resident.so" resident
