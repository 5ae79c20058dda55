#pragma once

/* What this machine takes for a single send to a Unix socket that another process waits for with
 * epoll, as a web server does: CPU of the sender in microseconds. A handler that writes once per
 * client and event cannot get below that, so it tells how much of a delivery's cost is the
 * handler's own. Takes half a second; 0 when it could not be measured. */
double floor_send_us(void);
