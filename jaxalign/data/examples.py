from jaxalign.data.catalog import Source as Source
