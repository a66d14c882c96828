package cellstore

import (
	"context"
	"slices"
	"strings"

	"cloud.google.com/go/bigtable/admin/apiv2/adminpb"
)

// instanceAdmin answers the instance questions that tools ask before they turn
// to tables. Instances are not created: every name is an instance with one
// cluster, and those with tables are listed.
type instanceAdmin struct {
	adminpb.UnimplementedBigtableInstanceAdminServer
	s *Server
}

func instance(name string) *adminpb.Instance {
	return &adminpb.Instance{
		Name:        name,
		DisplayName: name[strings.LastIndexByte(name, '/')+1:],
		State:       adminpb.Instance_READY,
		Type:        adminpb.Instance_DEVELOPMENT,
	}
}

func cluster(parent string) *adminpb.Cluster {
	project, _, _ := strings.Cut(strings.TrimPrefix(parent, "projects/"), "/")
	return &adminpb.Cluster{
		Name:               parent + "/clusters/" + clusterID,
		Location:           "projects/" + project + "/locations/" + clusterID,
		State:              adminpb.Cluster_READY,
		ServeNodes:         1,
		DefaultStorageType: adminpb.StorageType_SSD,
	}
}

func (a *instanceAdmin) GetInstance(_ context.Context, req *adminpb.GetInstanceRequest) (*adminpb.Instance, error) {
	if err := checkParent(req.GetName()); err != nil {
		return nil, err
	}
	return instance(req.GetName()), nil
}

func (a *instanceAdmin) ListInstances(_ context.Context, req *adminpb.ListInstancesRequest) (*adminpb.ListInstancesResponse, error) {
	res := &adminpb.ListInstancesResponse{}
	for _, name := range a.instanceNames(req.GetParent()) {
		res.Instances = append(res.Instances, instance(name))
	}
	return res, nil
}

// instanceNames lists the instances of a project that have tables.
func (a *instanceAdmin) instanceNames(project string) []string {
	var names []string
	for _, table := range a.s.tableNames("") {
		name, _, _ := strings.Cut(table, "/tables/")
		if strings.HasPrefix(name, project+"/") {
			names = append(names, name)
		}
	}
	return slices.Compact(names)
}

func (a *instanceAdmin) GetCluster(_ context.Context, req *adminpb.GetClusterRequest) (*adminpb.Cluster, error) {
	parent, _, _ := strings.Cut(req.GetName(), "/clusters/")
	if err := checkParent(parent); err != nil {
		return nil, err
	}
	return cluster(parent), nil
}

func (a *instanceAdmin) ListClusters(_ context.Context, req *adminpb.ListClustersRequest) (*adminpb.ListClustersResponse, error) {
	res := &adminpb.ListClustersResponse{}
	if parent := req.GetParent(); strings.HasSuffix(parent, "/instances/-") {
		for _, name := range a.instanceNames(strings.TrimSuffix(parent, "/instances/-")) {
			res.Clusters = append(res.Clusters, cluster(name))
		}
		return res, nil
	}
	if err := checkParent(req.GetParent()); err != nil {
		return nil, err
	}
	res.Clusters = append(res.Clusters, cluster(req.GetParent()))
	return res, nil
}
