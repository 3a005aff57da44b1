# What the tables say is behind this: _execsandboxctl_verb, _execsandboxctl_group, _execsandboxctl_method and the lists of
# verbs, methods and languages.

# _execsandboxctl_ask KEYS WORD...: texts of these keys (a pattern) in the daemon's answer to a verb; nothing without a daemon.
_execsandboxctl_ask()
{
	timeout 2 "${words[0]}" ${socket:+--socket "$socket"} --json "${@:2}" 2>/dev/null </dev/null |
		sed -nE 's/^ *"('"$1"')": "([^"\\ ]+)",?$/\2/p'
}

# Adds to `candidates` what a place of this kind takes; kinds are the words of the help texts.
_execsandboxctl_kind()
{
	local keys=
	case $1 in
	VERB) candidates+=" $_execsandboxctl_verbs" ;;
	METHOD) candidates+=" $_execsandboxctl_methods" ;;
	LANG | LANGUAGE) candidates+=" $_execsandboxctl_languages" ;;
	SESSION*) candidates+=" $(_execsandboxctl_ask 'session|name' session list)" ;;
	VM) candidates+=" $(_execsandboxctl_ask vm list)" ;;
	FILE | PATH) takes_files=1 ;;
	SOURCE | TARGET)
		# Behind a session's colon stands a path of the guest's.
		[[ $current != *:* ]] || return 0
		takes_files=1 more_follows=1
		candidates+=" $(_execsandboxctl_ask 'session|name' session list | sed 's/$/:/')"
		;;
	KEY=TEXT)
		_execsandboxctl_method "$first"
		candidates+=" $keys" more_follows=1
		;;
	KEY=VALUE)
		_execsandboxctl_method "${verb/ /.}"
		candidates+=" ${keys//:=/=}" more_follows=1
		;;
	*[!a-z]*) ;;
	*) candidates+=" $1" ;;
	esac
}

# The words as the program gets them, up to the cursor: readline breaks them at '=' and ':', too.
_execsandboxctl_words()
{
	local line=$COMP_LINE word
	for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
		if [[ ${#words[@]} == 0 || $line == [[:blank:]]* ]]; then
			line=${line#"${line%%[![:blank:]]*}"}
			words+=("$word")
		else
			words[-1]+=$word
		fi
		line=${line#"$word"}
	done
}

# Sets verb, `first` and `count` of its operands, and `wanted`, the kind of the value that the last word is, if it is one.
# Fails behind `--`, where words are the program's.
_execsandboxctl_parse()
{
	local word last=$((${#words[@]} - 1)) i=1
	while ((i < last)); do
		word=${words[i++]}
		if [[ $word == -- ]]; then
			return 1
		elif [[ $word == -* ]]; then
			[[ " $values " =~ " $word:"([^ ]*)" " ]] || continue
			wanted=
			if ((i == last)); then
				wanted=${BASH_REMATCH[1]}
			elif [[ $word == --socket || $word == -s ]]; then
				socket=${words[i]}
			fi
			((i++))
		elif [[ -z $verb ]]; then
			verb=$word
			_execsandboxctl_verb "$verb" || _execsandboxctl_group "$verb" || return 1
		elif ((count == 0)) && _execsandboxctl_verb "$verb $word"; then
			verb+=" $word"
		else
			((count++)) || first=$word
		fi
	done
}

# The candidates that `current` begins, without what readline keeps of it.
_execsandboxctl_reply()
{
	local kept=$current
	mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$current")
	if [[ -n $takes_files ]]; then
		compopt -o filenames 2>/dev/null
		mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")
	fi
	[[ -z $more_follows ]] || compopt -o nospace 2>/dev/null
	[[ $COMP_WORDBREAKS == *:* ]] || kept=${kept//:/_}
	[[ $COMP_WORDBREAKS == *=* ]] || kept=${kept//=/_}
	kept=${kept##*[=:]}
	COMPREPLY=("${COMPREPLY[@]#"${current%"$kept"}"}")
}

_execsandboxctl()
{
	local words=() verb='' first='' count=0 wanted='' socket='' candidates='' takes_files='' more_follows=''
	local options='' values='' operands='' seconds='' current places kind
	COMPREPLY=()
	_execsandboxctl_words
	current=${words[-1]}
	_execsandboxctl_verb ''
	_execsandboxctl_parse || return 0
	if [[ -z $wanted && $current == --*=* && " $values " =~ " ${current%%=*}:"([^ ]*)" " ]]; then
		wanted=${BASH_REMATCH[1]} current=${current#*=}
	fi
	if [[ -n $wanted ]]; then
		_execsandboxctl_kind "$wanted"
	elif [[ $current == -* ]]; then
		candidates=$options
	else
		((count > 0)) || ! _execsandboxctl_group "$verb" || candidates=$seconds
		read -ra places <<<"$operands"
		# The last place, with dots behind it, is any number of places.
		if ((count >= ${#places[@]})) && [[ $operands == *... ]]; then
			count=$((${#places[@]} - 1))
		fi
		kind=${places[count]:-}
		kind=${kind%...}
		for kind in ${kind//|/ }; do
			_execsandboxctl_kind "$kind"
		done
	fi
	_execsandboxctl_reply
}

complete -F _execsandboxctl execsandboxctl
