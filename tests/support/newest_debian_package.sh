#!/bin/sh
# newest_debian_package.sh PACKAGE DIR: unpacks the newest PACKAGE that Debian's mirror has into DIR, and installs nothing.
# Exit code 1 where there is none.
set -eu

package=$1
mkdir -p "$2"
to=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -vi security | head -n 1)
[ -n "$mirror" ] || exit 1
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/parts"
newest() {
    apt-get -o "Dir::Etc::sourcelist=$work/sources.list" -o "Dir::Etc::sourceparts=$work/parts" \
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root "$@" >/dev/null 2>&1
}
cd "$work"
for suite in sid forky trixie; do
    echo "deb $mirror $suite main" >sources.list
    newest update -qq && newest download "$package" || continue
    dpkg-deb -x "$package"_*.deb "$to"
    exit 0
done
exit 1
