# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Containers, for machines with a Docker engine. Sourced.

# engine_answers: quick in every case; an engine on its way out may hang.
engine_answers() {
    have docker && timeout 5 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

# Sets COMPOSE to the Compose at hand: the engine's plugin, or the older one.
find_compose() {
    if docker compose version >/dev/null 2>&1; then
        COMPOSE=(docker compose)
    elif have docker-compose; then
        COMPOSE=(docker-compose)
    else
        return 1
    fi
    COMPOSE+=(--project-directory "$ROOT" -f "$ROOT/compose.yaml")
    # Containers belong to the folder that has their state: what runs for
    # another DVS_RUN is a project of its own, and nobody's here to take down.
    if [[ $RUN != "$ROOT/.run" && -z ${COMPOSE_PROJECT_NAME:-} ]]; then
        COMPOSE_PROJECT_NAME=dvswitch-$(realpath -m "$RUN" | cksum | cut -d' ' -f1)
        export COMPOSE_PROJECT_NAME
    fi
}

compose() { "${COMPOSE[@]}" "$@"; }

# compose_is_up: true if the bus runs, on which all else depends.
compose_is_up() {
    engine_answers && find_compose || return 1
    local id
    # The older Compose also names containers that don't run.
    id=$(compose ps -q nats 2>/dev/null) && [[ -n $id ]] &&
        [[ $(docker inspect --format '{{.State.Running}}' "$id") == true ]]
}

# compose_hosts: how many run. The older Compose also lists those that don't.
compose_hosts() {
    local ids
    mapfile -t ids < <(compose ps -q host-agent)
    ((${#ids[@]})) || { echo 0 && return; }
    docker inspect --format '{{.State.Running}}' "${ids[@]}" | grep -c true || true
}

# The images. Where cargo is, they are put together from the binaries built
# here, with or without a registry: probing for one costs more than it tells,
# and what was compiled before is used again. Without cargo the engine
# compiles, for which it needs a registry.
local_images() {
    local tree=$ROOT/target/images image
    "$ROOT/ops/image-tree" "$BINARIES" "$TOOLS/nats-server/bin/nats-server" "$tree"
    for image in dvswitch dvswitch-nats; do
        quietly "$LOGS/image-$image" docker build --file "$ROOT/ops/Dockerfile.local" \
            --target "$image" --tag "$image" "$tree"
    done
}

engine_images() {
    compose build || missing "cargo, or an image registry that the engine can pull from" \
        "curl -sSf https://sh.rustup.rs | sh -s -- -y"
    # The operator's command line, for this machine. It is static, so it runs
    # here as well.
    local container
    container=$(docker create dvswitch /dvsctl)
    mkdir -p "$RUN/programs"
    docker cp -q "$container:/dvsctl" "$RUN/programs/dvsctl"
    docker rm "$container" >/dev/null
}

compose_containers() {
    local options=(-d --no-build --scale "host-agent=$HOSTS")
    quietly "$LOGS/compose" compose up "${options[@]}" || {
        say "--- the end of what the containers say"
        compose logs --no-color --tail 5 >&2 || true
        return 1
    }
}

# The operator's key, out of the volume that only it is in.
compose_operator_key() {
    local container
    container=$(compose ps -a -q credentials | head -n 1)
    mkdir -p "$(dirname "$OPERATOR_KEY")"
    docker cp "$container:/credentials/operator/operator.nk" "$OPERATOR_KEY" >/dev/null
}

# healthy SERVICE
healthy() {
    local id
    id=$(compose ps -q "$1")
    [[ -n $id && $(docker inspect --format '{{.State.Health.Status}}' "$id") == healthy ]]
}

compose_healthy() {
    local service
    for service in nats config-publisher retry runtime-collector; do
        eventually 60 healthy "$service" || {
            say "--- the end of $service's log"
            compose logs --no-color --tail 15 "$service" >&2
            die "$service is not healthy after 60 s"
        }
    done
}

compose_up() {
    if ((WITH_CARGO)); then
        step "images" local_images
    else
        step "images, compiled by the engine" engine_images
        BINARIES=$RUN/programs
    fi
    OPERATOR_KEY=$RUN/compose/operator.nk
    step "containers, $HOSTS of them hosts" compose_containers
    step "health" compose_healthy
    compose_operator_key
}

# compose_down WITH_VOLUMES
compose_down() {
    local options=(--remove-orphans --timeout 20)
    (($1)) && options+=(--volumes)
    COMPOSE_PROFILES=tools quietly "$LOGS/compose" compose down "${options[@]}"
}
