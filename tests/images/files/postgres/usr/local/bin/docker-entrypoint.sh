#!/bin/sh
# What a test needs of the official image's entrypoint: on the first start make the cluster from POSTGRES_USER,
# POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_HOST_AUTH_METHOD and /docker-entrypoint-initdb.d, then be the server.
set -eu

case "${1:-}" in -*) set -- postgres "$@" ;; esac

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}

make_cluster() {
    password_file=$(mktemp)
    printf '%s\n' "${POSTGRES_PASSWORD:-}" >"$password_file"
    [ -n "${POSTGRES_PASSWORD:-}" ] || [ "$method" = trust ] || {
        echo "set POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust" >&2
        exit 1
    }
    initdb --username="$user" ${POSTGRES_PASSWORD:+--pwfile="$password_file"} \
        --auth-local=trust --auth-host="$method" --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions
    rm "$password_file"
    echo "host all all all $method" >>"$PGDATA/pg_hba.conf"
    # Test data need not survive a power failure.
    cat >>"$PGDATA/postgresql.conf" <<-END
	listen_addresses = '*'
	fsync = off
	synchronous_commit = off
	full_page_writes = off
	END
}

fill_cluster() {
    # Not reachable over TCP yet: who waits for the port must not see a half-made database.
    pg_ctl --silent --wait --options="-c listen_addresses=''" start
    [ "$database" = postgres ] || createdb --username="$user" --maintenance-db=postgres "$database"
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
        *.sh) . "$script" ;;
        *.sql) psql --username="$user" --dbname="$database" --no-psqlrc -v ON_ERROR_STOP=1 --file="$script" ;;
        esac
    done
    pg_ctl --silent --wait --mode=fast stop
}

if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    make_cluster
    if [ "$database" != postgres ] || [ -d /docker-entrypoint-initdb.d ]; then
        fill_cluster
    fi
fi
exec "$@"
