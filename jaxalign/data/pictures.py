class UnreadablePictureError(ValueError):
    def __init__(self, id, reason):
        super().__init__(f"{id}: {reason}")
        self.id, self.reason = id, reason
