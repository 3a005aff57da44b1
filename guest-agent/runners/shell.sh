# SPDX-License-Identifier: Apache-2.0
# Makes a bash wait for its script: sourced through BASH_ENV, which bash reads before it opens that.
#
# What it was told comes from the agent (guest-agent/go.h) and is data: nothing of it is evaluated.
# Nothing of this file is left when the script runs.
unset BASH_ENV
printf . >&"$EXECSANDBOX_GO_FD"
IFS= read -r -d '' -u "$EXECSANDBOX_GO_FD" EXECSANDBOX_STAY
if [[ $EXECSANDBOX_STAY ]]; then
	while IFS= read -r -d '' -u "$EXECSANDBOX_GO_FD" EXECSANDBOX_GO && [[ $EXECSANDBOX_GO ]]; do
		export -- "$EXECSANDBOX_GO"
	done
else
	mapfile -d '' -t -u "$EXECSANDBOX_GO_FD" EXECSANDBOX_GO
	exec {EXECSANDBOX_GO_FD}>&-
	unset EXECSANDBOX_GO_FD
	# The end without a message: there is nothing to run.
	((${#EXECSANDBOX_GO[@]})) || exit 0
	if [[ ${EXECSANDBOX_GO[0]} ]]; then
		cd -P -- "${EXECSANDBOX_GO[0]}" || exit 127
		unset OLDPWD
		export OLDPWD
	fi
	set -- "${EXECSANDBOX_GO[@]:2:EXECSANDBOX_GO[1]}"
	if ((${#EXECSANDBOX_GO[@]} > EXECSANDBOX_GO[1] + 2)); then
		export -- "${EXECSANDBOX_GO[@]:EXECSANDBOX_GO[1]+2}"
	fi
fi
unset EXECSANDBOX_GO
# Clones of one template wait with the same state of the generator, and for any time.
RANDOM=$SRANDOM
# Bash asked for the name when it started.
read -r HOSTNAME </proc/sys/kernel/hostname
SECONDS=0
# The shell of a session: does not come back.
[[ ! $EXECSANDBOX_STAY ]] || . "${BASH_SOURCE%/*}/shell/resident.sh"
unset EXECSANDBOX_STAY
: "$BASH"
