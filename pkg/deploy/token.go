package deploy

import (
	"context"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

const cloudScope = "https://www.googleapis.com/auth/cloud-platform"

// googleToken returns tokens of the application default credentials, which are looked for once.
func googleToken() func(context.Context) (string, error) {
	find := sync.OnceValues(func() (oauth2.TokenSource, error) {
		// The source outlives the request that needs it first, so it has no context of a request.
		found, err := google.FindDefaultCredentials(context.Background(), cloudScope)
		if err != nil {
			return nil, err
		}
		return found.TokenSource, nil
	})
	return func(context.Context) (string, error) {
		source, err := find()
		if err != nil {
			return "", err
		}
		token, err := source.Token()
		if err != nil {
			return "", err
		}
		return token.AccessToken, nil
	}
}
