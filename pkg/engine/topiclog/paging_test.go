package topiclog

import (
	"fmt"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
)

// lister returns one page of names.
type lister func(size int32, token string) (names []string, next string, err error)

// listers covers every method that pages.
func listers(f *fixture, topic string) map[string]lister {
	return map[string]lister{
		"topics": func(size int32, token string) (names []string, _ string, _ error) {
			res, err := f.pub.ListTopics(f.ctx, &pubsubpb.ListTopicsRequest{Project: project, PageSize: size, PageToken: token})
			for _, x := range res.GetTopics() {
				names = append(names, x.GetName())
			}
			return names, res.GetNextPageToken(), err
		},
		"subscriptions": func(size int32, token string) (names []string, _ string, _ error) {
			res, err := f.sub.ListSubscriptions(f.ctx, &pubsubpb.ListSubscriptionsRequest{Project: project, PageSize: size, PageToken: token})
			for _, x := range res.GetSubscriptions() {
				names = append(names, x.GetName())
			}
			return names, res.GetNextPageToken(), err
		},
		"snapshots": func(size int32, token string) (names []string, _ string, _ error) {
			res, err := f.sub.ListSnapshots(f.ctx, &pubsubpb.ListSnapshotsRequest{Project: project, PageSize: size, PageToken: token})
			for _, x := range res.GetSnapshots() {
				names = append(names, x.GetName())
			}
			return names, res.GetNextPageToken(), err
		},
		"topic subscriptions": func(size int32, token string) ([]string, string, error) {
			res, err := f.pub.ListTopicSubscriptions(f.ctx, &pubsubpb.ListTopicSubscriptionsRequest{Topic: topic, PageSize: size, PageToken: token})
			return res.GetSubscriptions(), res.GetNextPageToken(), err
		},
		"topic snapshots": func(size int32, token string) ([]string, string, error) {
			res, err := f.pub.ListTopicSnapshots(f.ctx, &pubsubpb.ListTopicSnapshotsRequest{Topic: topic, PageSize: size, PageToken: token})
			return res.GetSnapshots(), res.GetNextPageToken(), err
		},
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	f.topic("projects/other/topics/alpha")
	want := map[string][]string{}
	for i := range 7 {
		topic, sub, snap := fmt.Sprintf("%s/topics/t-%d", project, i), fmt.Sprintf("%s/subscriptions/s-%d", project, i), fmt.Sprintf("%s/snapshots/n-%d", project, i)
		f.topic(topic)
		f.subscribe(&pubsubpb.Subscription{Name: sub, Topic: project + "/topics/t-0"})
		if _, err := f.sub.CreateSnapshot(f.ctx, &pubsubpb.CreateSnapshotRequest{Name: snap, Subscription: sub}); err != nil {
			t.Fatal(err)
		}
		want["topics"] = append(want["topics"], topic)
		for _, k := range []string{"subscriptions", "topic subscriptions"} {
			want[k] = append(want[k], sub)
		}
		for _, k := range []string{"snapshots", "topic snapshots"} {
			want[k] = append(want[k], snap)
		}
	}
	for name, list := range listers(f, project+"/topics/t-0") {
		for size, pages := range map[int32]int{0: 1, 1: 7, 3: 3, 7: 1, 100: 1} {
			if got, n := walk(t, list, size); !equal(got, want[name]) || n != pages {
				t.Errorf("%s by %d: %d pages, %v", name, size, n, got)
			}
		}
		_, _, err := list(-1, "")
		wantCode(t, name+" negative page", err, codes.InvalidArgument)
		_, _, err = list(1, "%%%")
		wantCode(t, name+" foreign token", err, codes.InvalidArgument)
	}
}

// walk reads all pages.
func walk(t *testing.T, list lister, size int32) (all []string, pages int) {
	t.Helper()
	for token := ""; ; {
		names, next, err := list(size, token)
		if err != nil {
			t.Fatal(err)
		}
		all, pages = append(all, names...), pages+1
		if token = next; token == "" {
			return all, pages
		}
	}
}
