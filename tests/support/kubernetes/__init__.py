"""A cluster, Argo CD, helm, containers, and our chart and examples in them."""
