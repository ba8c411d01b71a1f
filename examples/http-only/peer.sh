#!/bin/sh
# A peer by curl: joins a room, prints each frame that comes, and sends each line
# of standard input, which is one message:
#
#	peer.sh ROOM ME
#	{"type":"msg","to":"alice","data":"hello"}
#
# BECKON_URL is the server, http://127.0.0.1:8080 by default, and BECKON_TOKEN the
# token that it asks for, which --dev does not. It ends when the server refuses it,
# with 1, but not where that can pass.
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

# send posts each line that it reads, once the peer has joined. What could not be
# sent is said with the server's reason, or curl's.
send() {
	until [ -s "$dir/last" ]; do sleep 0.1; done
	while IFS= read -r message || [ -n "$message" ]; do # the last may have no line end
		printf '%s' "$message" >"$dir/message"
		rm -f "$dir/answer"
		request --fail-with-body --output "$dir/answer" --header 'Content-Type: application/json' \
			--data-binary @"$dir/message" "$peer/messages" ||
			{ [ ! -s "$dir/answer" ] || cat "$dir/answer"; echo "not sent: $message"; } >&2
	done
}

# listen prints the data of each event until the stream ends, and notes the id of
# the last. It fails when the server refuses the stream for good; the reason, a
# problem in JSON, is no line of an event, and is said.
listen() {
	{
		request --no-buffer --fail-with-body --write-out '\nstatus: %{http_code}\n' \
			--header "Last-Event-ID: $(cat "$dir/last")" "$peer/events" || :
	} | {
		id=
		while IFS= read -r line; do
			case $line in
			'id: '*) id=${line#id: } ;;
			'data: '*) printf '%s\n' "${line#data: }" ;;
			'{'*) printf '%s\n' "$line" >&2 ;;
			'status: 429' | 'status: 5'*) sleep 4 ;; # it can pass
			'status: 4'*) exit 1 ;;
			'') [ -z "$id" ] || printf '%s' "$id" >"$dir/last" ;;
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
exit 1
