# Debian packages by the programs that are needed from them; read by the setup scripts.
missing=""
need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
install_missing() {
    if [ -n "$missing" ] && [ "$(id -u)" -ne 0 ]; then
        echo "setup: not root, so these packages were not installed:$missing" >&2
    elif [ -n "$missing" ]; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q
        # shellcheck disable=SC2086
        apt-get install -y -q --no-install-recommends $missing
    fi
}
