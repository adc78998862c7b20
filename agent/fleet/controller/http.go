package controller

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/limber-edge/limber/agent/blob"
)

// Source is the URL below which blobs are served by HTTP, as devices are told; "" if
// there is none. Where the address is of no host, that is this machine's name.
func (c *Controller) Source() string {
	if c.http == nil {
		return ""
	}
	host, _, _ := net.SplitHostPort(c.cfg.HTTP)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host, _ = os.Hostname()
	}
	_, port, _ := net.SplitHostPort(c.http.Addr().String())
	return "http://" + net.JoinHostPort(host, port) + "/"
}

// serveHTTP serves blobs to who knows their digests.
func (c *Controller) serveHTTP(ctx context.Context) error {
	if c.http == nil {
		return nil
	}
	if err := blob.Serve(ctx, c.http, blob.NewHandler(c.shelf.cache, c.shelf.alive)); err != nil {
		return fmt.Errorf("serve blobs: %w", err)
	}
	return nil
}
