#!/bin/sh
# A peer by curl: joins a room, prints each frame that comes, and sends each line
# of standard input, which is one message:
#
#	peer.sh ROOM ME
#	{"type":"msg","to":"alice","data":"hello"}
#
# BECKON_URL is the server, http://127.0.0.1:8080 by default, and BECKON_TOKEN the
# token that it asks for, which --dev does not.
set -eu
if [ $# -ne 2 ]; then
	echo "usage: $0 ROOM ME" >&2
	exit 2
fi
peer=${BECKON_URL:-http://127.0.0.1:8080}/api/v1/rooms/$1/peers/$2

umask 077
dir=$(mktemp -d)
sender=
trap '[ -z "$sender" ] || kill "$sender" 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Not among the arguments of curl, which everyone on the machine can read.
if [ -n "${BECKON_TOKEN:-}" ]; then
	printf 'header = "Authorization: Bearer %s"\n' "$BECKON_TOKEN" >"$dir/curl"
else
	: >"$dir/curl"
fi
: >"$dir/last"

request() {
	curl --silent --show-error --config "$dir/curl" "$@"
}

# send posts each line that it reads, once the peer has joined.
send() {
	until [ -s "$dir/last" ]; do sleep 0.1; done
	while IFS= read -r message; do
		printf '%s' "$message" >"$dir/message"
		request --fail-with-body --output "$dir/answer" --header 'Content-Type: application/json' \
			--data-binary @"$dir/message" "$peer/messages" || cat "$dir/answer" >&2
	done
}

# listen prints the data of each event until the stream ends, and notes the id of
# the last. It fails when the server refuses the stream.
listen() {
	{
		request --no-buffer --fail --header "Last-Event-ID: $(cat "$dir/last")" "$peer/events" || echo "curl: $?"
	} | {
		id=
		while IFS= read -r line; do
			case $line in
			'id: '*) id=${line#id: } ;;
			'data: '*) printf '%s\n' "${line#data: }" ;;
			'') [ -z "$id" ] || printf '%s' "$id" >"$dir/last" ;;
			'curl: 22') exit 1 ;;
			esac
		done
	}
}

exec 3<&0
send <&3 &
sender=$!
while listen; do
	sleep 1 # and go on after the last event
done
