#!/bin/sh
# A double of the command line: it notes what it is told, and starts one service.
echo "$*" >> /run/told
[ "$1" != start ] || systemctl start aibox@chat.service
[ "$1 $2" != 'install --resume' ] || rm /var/lib/aibox/journal/resume.json
