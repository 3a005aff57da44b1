#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What tests/system/cgroup2 plays inside its machine: pure cgroup v2, nested emulation, so everything takes its time.
set -u
groups=/sys/fs/cgroup
passed=0 failed=0

say() { printf '%s\n' "$*"; }

# check TEXT COMMAND...
check() {
	what=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
		say "ok   $what"
	else
		failed=$((failed + 1))
		say "FAIL $what"
	fi
}

# until_true SECONDS COMMAND...
until_true() {
	left=$(($1 * 2))
	shift
	while ! "$@" >/dev/null 2>&1; do
		[ "$left" -gt 0 ] || return 1
		left=$((left - 1))
		sleep 0.5
	done
}

main_pid() { systemctl show --value --property=MainPID execsandboxd.service; }
qemu_pid() { pgrep -o -f '^/usr/bin/qemu-system' || echo 0; }
group_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
in_session() { execsandboxctl session exec "$session" --timeout 900 -p "$1"; }
is_another_daemon() { [ "$(systemctl is-active execsandboxd.service)" = active ] && [ "$(main_pid)" != "$daemon" ]; }
is_pure_v2() { [ "$(stat -fc %T $groups)" = cgroup2fs ]; }
is_in_a_leaf() { case $(group_of "$qemu") in /execsandbox.slice/execsandbox-launcher.service/vm_*) ;; *) return 1 ;; esac; }
has_number() { grep -q '^[0-9]' "$groups$leaf/$1"; }
has_limits() { has_number memory.max && has_number pids.max && has_number cpu.max; }
ends_as_one() { [ "$(cat "$groups$leaf/memory.oom.group")" = 1 ]; }
is_the_same_machine() { [ "$(in_session 'echo $((kept + 1)) $(cat file)')" = "42 there" ] && [ "$(qemu_pid)" = "$qemu" ]; }
has_no_machine() { [ "$(qemu_pid)" = 0 ] && [ ! -e "$groups$leaf" ]; }
has_no_launcher() { [ "$(systemctl is-active execsandbox-launcher.service)" = inactive ]; }

check "pure cgroup v2" is_pure_v2
session=$(execsandboxctl session create -l shell)
check "a session is there" test -n "$session"
check "it runs code" in_session 'kept=41; echo there >file'
say "     after $(cut -d. -f1 /proc/uptime) s"
qemu=$(qemu_pid) leaf=$(group_of "$(qemu_pid)") daemon=$(main_pid)
say "     the machine is in $leaf"
check "the machine is in a group of its own in the launcher's unit" is_in_a_leaf
check "its group has limits of memory, processes and CPU" has_limits
check "out of memory, its group ends as one" ends_as_one
if [ "$failed" != 0 ]; then
	journalctl --no-pager --output=short-monotonic --unit='execsandbox*' | tail -n 60
	say "$passed passed, $failed failed"
	exit 1
fi

systemctl kill --signal=KILL --kill-whom=main execsandboxd.service
check "killed, another daemon is there" until_true 120 is_another_daemon
check "the session goes on in its machine after kill -9" is_the_same_machine

daemon=$(main_pid)
systemctl kill --signal=USR1 --kill-whom=main execsandboxd.service
check "handed over, another daemon is there" until_true 120 is_another_daemon
check "the session goes on in its machine after the hand-over" is_the_same_machine

systemctl stop execsandboxd.socket execsandboxd.service
check "stopped, machine and group are gone" until_true 60 has_no_machine
check "the launcher has ended" until_true 60 has_no_launcher
[ "$failed" = 0 ] || journalctl --no-pager --output=short-monotonic --unit='execsandbox*' | tail -n 60
say "$passed passed, $failed failed"
