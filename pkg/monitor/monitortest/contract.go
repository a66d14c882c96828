package monitortest

import "net/http"

type contract struct{}

func loadContract() *contract { return nil }

func (d *Datadog) check(*route, *http.Request, []byte, *Response) {}
