#!/usr/bin/env bash
# A working day with containers, as somebody types it who knows Docker: each step says what must come of it.
#
#     day.sh BUSYBOX.tar NGINX.tar PROGRAM [OPTION]…
#
# PROGRAM is `runtime-bin --root …`, or `docker` (with a daemon that has a fresh data directory). The images are those of
# `cargo xtask images`. What comes of a step must be the same with both; docs/compat.md says where it is not, and why.
set -u
busybox_tar=$(realpath "$1") nginx_tar=$(realpath "$2")
shift 2
program=("$@")
d() { "${program[@]}" "$@"; }
work=$(mktemp -d) && cd "$work" || exit 1
trap 'rm -rf "$work"' EXIT
number=0 failed=0
busybox=localhost/busybox:latest nginx=localhost/nginx:latest

# it NAME STATUS EXPECTED COMMAND…: runs it; its exit status must be STATUS, and its standard output must match the
# pattern of the shell EXPECTED as a whole (runs of white space are one space).
it() {
    local name=$1 status=$2 expected=$3 got was
    shift 3
    number=$((number + 1))
    got=$("$@" 2>"$work/stderr" </dev/null | tr -d "\0"; exit "${PIPESTATUS[0]}")
    was=$?
    got=$(printf '%s' "$got" | tr -s '[:space:]' ' ')
    got=${got# } got=${got% }
    # shellcheck disable=SC2053
    if [ "$was" = "$status" ] && [[ $got == $expected ]]; then
        echo "ok $number - $name"
    else
        failed=$((failed + 1))
        echo "not ok $number - $name"
        echo "# status $was, expected $status; expected $expected; got:"
        printf '%s\n' "$got" | sed 's/^/#   /'
        sed 's/^/# stderr: /' "$work/stderr"
    fi
}

# A step that needs more than one command.
sh() { eval "$1"; }

# eventually COMMAND…: waits until it succeeds, for as long as only a failure needs.
eventually() {
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    return 1
}

id='[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]*'

# Morning: images.
it "an image comes out of a tar" 0 "*Loaded image: $busybox" d load -i "$busybox_tar"
it "another one, quietly" 0 "*$nginx" d load -q -i "$nginx_tar"
it "images lists them" 0 "$busybox $nginx" sh 'd images --format "{{.Repository}}:{{.Tag}}" | sort'
it "images -q gives ids" 0 "$id" sh 'd images -q $busybox'
it "an image's platform" 0 "linux/amd64" d image inspect --format '{{.Os}}/{{.Architecture}}' $busybox
it "an image is tagged" 0 "" d tag $busybox tools:1
it "and found by a filter" 0 "tools 1" d images --filter reference=tools --format '{{.Repository}} {{.Tag}}'

# Runs that come back.
it "hello" 0 "hello" d run --rm tools:1 echo hello
it "the command's status" 7 "" d run --rm tools:1 sh -c 'exit 7'
it "a command that is not there" 127 "" d run --rm tools:1 no-such-command
it "a command that cannot be executed" 126 "" d run --rm tools:1 /etc
it "an option that is not there" 125 "" d run --no-such-option tools:1 true
it "standard input" 0 "through the pipe" sh 'echo through the pipe | d run --rm -i tools:1 cat'
it "standard error apart" 0 "err" sh 'd run --rm tools:1 sh -c "echo out; echo err >&2" 2>&1 >/dev/null'
export HOST_VAR=3
printf 'FROM_FILE=1\n# a comment\nHOST_VAR\n' >env-file
it "the environment" 0 "1 2 3" d run --rm -e B=2 --env-file env-file tools:1 sh -c 'echo $FROM_FILE $B $HOST_VAR'
it "directory, user, host's name" 0 "/tmp 1000 1001 box" d run --rm -w /tmp -u 1000:1001 --hostname box tools:1 sh -c 'echo $(pwd) $(id -u) $(id -g) $(hostname)'
it "an entry point of one's own" 0 "a b" d run --rm --entrypoint echo tools:1 a b
it "a root that is read only" 1 "" d run --rm --read-only tools:1 touch /x
it "a tmpfs" 0 "tmpfs" d run --rm --tmpfs /scratch:size=1m tools:1 sh -c 'grep " /scratch " /proc/mounts | cut -d" " -f1'
it "no capabilities" 1 "" d run --rm --cap-drop ALL tools:1 chown 1 /tmp
it "a limit" 0 "99" d run --rm --ulimit nofile=99:99 tools:1 sh -c 'ulimit -n'
it "more shared memory" 0 "131072" d run --rm --shm-size 128m tools:1 sh -c 'df -k /dev/shm | tail -1 | tr -s " " | cut -d" " -f2'
it "a parameter of the kernel" 0 "4242" d run --rm --sysctl kernel.msgmax=4242 tools:1 cat /proc/sys/kernel/msgmax
it "a host that is known" 0 "10.1.2.3" d run --rm --add-host db:10.1.2.3 tools:1 sh -c 'grep -w db /etc/hosts | cut -f1'
it "no new privileges" 0 "1" d run --rm --security-opt no-new-privileges tools:1 sh -c 'grep NoNewPrivs /proc/self/status | cut -f2'
# A program of ours that is linked dynamically has none (DYNAMIC is for tests of such a one).
[ -n "${DYNAMIC-}" ] || it "an init" 0 "*init*" d run --rm --init tools:1 cat /proc/1/cmdline
it "a file with the container's id" 0 "$id" sh 'd run --rm --cidfile cid tools:1 true && cat cid'

# Volumes.
mkdir here && echo 'from the host' >here/file
it "a directory of the host" 0 "from the host" d run --rm -v "$work/here:/there:ro" tools:1 cat /there/file
it "not to be written" 1 "" d run --rm -v "$work/here:/there:ro" tools:1 touch /there/x
it "with --mount" 0 "" sh 'd run --rm --mount type=bind,source="$work/here",target=/there tools:1 sh -c "echo made >/there/made" && grep -q made here/made'
it "a volume" 0 "data" d volume create data
it "is written" 0 "" d run --rm -v data:/data tools:1 sh -c 'echo kept >/data/file'
it "is read by another" 0 "kept" d run --rm -v data:/data:ro tools:1 cat /data/file
it "volume ls" 0 "data" d volume ls --format '{{.Name}}' --filter name=data
it "volume inspect" 0 "data local" d volume inspect --format '{{.Name}} {{.Driver}}' data

# A server's day.
it "a container is made, not started" 0 "$id" d create --name web --label app=shop -e MODE=test -v data:/data $nginx
it "ps -a shows it" 0 "web created" d ps -a --filter name=web --format '{{.Names}} {{.State}}'
it "ps does not" 0 "" d ps -q --filter name=web
it "it starts" 0 "web" d start web
it "now ps does" 0 "web $nginx" d ps --filter label=app=shop --format '{{.Names}} {{.Image}}'
page='exec 3<>/dev/tcp/127.0.0.1/80 && printf "GET / HTTP/1.0\r\n\r\n" >&3 && cat <&3'
export page
it "it serves a page" 0 "HTTP/1.1 200 OK*It is nginx*" sh 'eventually d exec web bash -c "$page"; d exec web bash -c "$page"'
it "inspect with a template" 0 "true shop running" d inspect --format '{{.State.Running}} {{.Config.Labels.app}} {{.State.Status}}' web
it "inspect in a loop" 0 "*MODE=test*" d inspect -f '{{range .Config.Env}}{{println .}}{{end}}' web
it "inspect as JSON" 0 '"/web"' d inspect -f '{{json .Name}}' web
it "top" 0 "*nginx: master process*" d top web
it "exec with an environment and a user" 0 "1 33" d exec -e A=1 -u 33 -w /tmp web sh -c 'echo $A $(id -u)'
it "exec's status" 3 "" d exec web sh -c 'exit 3'
it "exec in the background" 0 "" d exec -d web touch /tmp/made
it "the logs have the page" 0 "*GET / HTTP/1.0*" sh 'd logs web 2>&1'
echo copied >file
it "a file goes in" 0 "" d cp file web:/srv/file
it "and is there" 0 "copied" d exec web cat /srv/file
it "a directory comes out" 0 "copied" sh 'd cp web:/srv out >/dev/null && cat out/file'
it "a tar comes out" 0 "file" sh 'd cp web:/srv/file - | tar -t'
it "a tar goes in" 0 "file2" sh 'echo 2 >file2; tar -c file2 | d cp - web:/srv && d exec web ls /srv/file2 | xargs basename'
it "what has changed" 0 "*C /srv A /srv/file A /srv/file2*" d diff web
it "another name" 0 "" d rename web shop
it "that name is taken" 125 "" d run --name shop tools:1 true
it "a restart" 0 "shop" d restart -t 5 shop
it "with its files" 0 "copied" d exec shop cat /srv/file
it "a signal" 0 "shop" d kill -s HUP shop
it "a stop, by the image's own signal" 0 "shop" d stop -t 10 shop
it "ended well" 0 "exited 0" d inspect -f '{{.State.Status}} {{.State.ExitCode}}' shop
it "cp from what is stopped" 0 "copied" sh 'd cp shop:/srv/file - | tar -xO'
it "a volume in use stays" 1 "" d volume rm data
it "rm of a container" 0 "shop" d rm shop
it "an error for what is gone" 1 "[[]]" d inspect shop

# Short lives.
it "in the background" 0 "$id" d run -d --name job tools:1 sh -c 'echo one; echo two >&2; sleep 1; exit 3'
it "wait" 0 "3" d wait job
it "the log's standard output" 0 "one" sh 'd logs job 2>/dev/null'
it "the log's standard error" 0 "two" sh 'd logs job 2>&1 >/dev/null'
it "the log's last lines" 0 "1" sh 'd logs --tail 1 job 2>&1 | wc -l'
it "start again, attached" 3 "one" d start -a job
it "a log that is followed to the end" 0 "one one one" sh 'd start job >/dev/null; d logs -f job 2>/dev/null'
it "by its status" 0 "job" sh 'd wait job >/dev/null; d ps -a --filter status=exited --filter exited=3 --format "{{.Names}}"'
it "killed" 0 "137" sh 'd run -d --name sleeper tools:1 sleep 1000 >/dev/null; d kill sleeper >/dev/null; d wait sleeper'
it "rm -f of what runs" 0 "sleeper" sh 'd start sleeper >/dev/null; d rm -f sleeper'
it "again and again" 0 "2" sh 'd run -d --name flaky --restart on-failure:2 tools:1 false >/dev/null; d wait flaky >/dev/null; sleep 2; d wait flaky >/dev/null; d inspect -f "{{.RestartCount}}" flaky'
it "a health check" 0 "healthy" sh 'd run -d --name fit --health-cmd "test -e /tmp" --health-interval 1s tools:1 sleep 1000 >/dev/null
    healthy() { [ "$(d inspect -f "{{.State.Health.Status}}" fit)" = healthy ]; }; eventually healthy; d inspect -f "{{.State.Health.Status}}" fit'
it "the volumes of another" 0 "kept" sh 'd create --name store -v data:/data tools:1 >/dev/null; d run --rm --volumes-from store tools:1 cat /data/file'
it "the processes of another" 0 "*sleep 1000*" d run --rm --pid container:fit tools:1 ps
it "what happened" 0 "*create*start*" sh 'd events --since 10m --until 0s --filter container=fit --format "{{.Action}}"'
it "no names left behind" 0 "" sh 'd rm -f fit store flaky job >/dev/null; d ps -aq'

# Images of one's own.
it "a change" 0 "*" d run --name base tools:1 sh -c 'echo mine >/mine'
it "is committed" 0 "sha256:$id" d commit -m "a file" -c 'CMD ["cat", "/mine"]' base mine:1
it "and runs" 0 "mine" d run --rm mine:1
it "has a history" 0 "*a file*" d history --format '{{.Comment}}' mine:1
it "is saved" 0 "manifest.json" sh 'd save -o mine.tar mine:1 && tar -tf mine.tar manifest.json'
it "is removed" 0 "Untagged: mine:1*" d rmi mine:1
it "and comes back" 0 "Loaded image: mine:1" d load -i mine.tar
it "a container's files as a tar" 0 "mine" sh 'd export base | tar -t mine'
it "as an image" 0 "sha256:$id" sh 'd export base | d import -c "CMD [\"cat\", \"/mine\"]" - flat:1'
it "of one layer" 0 "mine" d run --rm flat:1
it "containers are pruned" 0 "*Total reclaimed space:*" d container prune -f
it "images too" 0 "*Total reclaimed space:*" d image prune -f
it "a volume is removed" 0 "data" d volume rm data
it "how much there is" 0 "Images Containers Local Volumes*" sh 'd system df --format "{{.Type}}"'

echo "1..$number"
echo "# $((number - failed)) passed, $failed failed"
[ "$failed" = 0 ]
