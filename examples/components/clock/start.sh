#!/bin/sh
# A demo component: says the time every ten seconds.
echo "the clock is set"
while :; do
    date +%H:%M:%S
    sleep 10
done
