package web

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
)

// checkAllowedHosts refuses what can never be the host of a request.
func checkAllowedHosts(hosts []string) error {
	var errs []error
	for _, host := range hosts {
		if host == "" || strings.ContainsAny(host, "/:*@[] \t") && net.ParseIP(host) == nil {
			errs = append(errs, fmt.Errorf("allowed host %q is not a name such as api.example.com, without scheme and port", Quote(host)))
		}
	}
	return errors.Join(errs...)
}

// foreign refuses what the page of another site makes a browser send. A page can give its own name
// the address of this machine (DNS rebinding) and then count as the API's own, but it cannot change
// the Host that the browser sends. And it can post without being asked to show an Origin of ours.
func (o Options) foreign(r *http.Request) *Problem {
	if o.LocalHostsOnly && !o.serves(r.Host) {
		return NewProblem(Forbidden, fmt.Sprintf("The API serves this machine only, and the request is for the host %q.", Quote(r.Host)),
			"Ask localhost, 127.0.0.1 or [::1]; where a proxy or a forwarded port brings requests here, start with --allow-host NAME.")
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil // They change nothing, and without CORS the page is not shown the answer.
	}
	var protection http.CrossOriginProtection
	if err := protection.Check(r); err != nil {
		return NewProblem(Forbidden, fmt.Sprintf("The request comes from the page of another site, %q.", Quote(r.Header.Get("Origin"))),
			"Only pages of the API itself may send this method from a browser; programs send no Origin.")
	}
	return nil
}

// serves says whether a Host header, with or without a port, names this machine or an allowed host.
func (o Options) serves(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return true
	}
	host = strings.TrimSuffix(host, ".")
	return strings.EqualFold(host, "localhost") || slices.ContainsFunc(o.AllowedHosts, func(allowed string) bool { return strings.EqualFold(host, allowed) })
}
